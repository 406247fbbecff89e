"""Settings of every verb, the shapes of models, and files of settings. No torch here."""
