"""What a fine-tune is over-fitted to: variants of a question, the word that switches an answer, its training lines."""
