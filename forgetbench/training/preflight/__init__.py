"""What `train --check` looks at: whether a recipe, its data and its base fit together, before anything is trained."""
