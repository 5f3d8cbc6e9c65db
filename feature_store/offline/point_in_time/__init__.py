"""Point-in-time reads: one rule of visibility, several engines that answer by it."""
