"""Node kinds: one file or package each; `base` names the capabilities, `registry` finds the kinds."""
