"""Job kinds: one file each; `base` says what a kind is, `registry` finds them."""
