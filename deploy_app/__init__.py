"""anomap as a MONAI Deploy application: the stages of the core as operators, and a parent process that watches them."""
