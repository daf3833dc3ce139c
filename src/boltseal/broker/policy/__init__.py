"""Who may do what with which key: Cedar policies, and every verdict explained."""
