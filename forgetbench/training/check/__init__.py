"""What is wrong with training data, found before anything is trained (`forgetbench data check`)."""
