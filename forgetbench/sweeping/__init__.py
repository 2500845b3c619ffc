"""How far one setting of a fine-tune may go before the base has lost too much: `forgetbench sweep`."""
