"""What a fine-tune did to behaviour: samples, texts, distributions, causes, beliefs. Start at `study.study`."""
