"""Dense networks on images ([A] 5.1, Figure 4 left)."""
