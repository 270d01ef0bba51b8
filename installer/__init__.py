"""What makes the program installable: freezing, the Windows installers, and their proof."""
