"""What the Anomap module is made of; `logic` is the way in."""
