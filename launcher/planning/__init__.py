"""Pure: the parts of the planner."""
