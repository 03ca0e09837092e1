complete --keep-order --exclusive --command ashctl --arguments "(ASHCTL_COMPLETE=fish ashctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
