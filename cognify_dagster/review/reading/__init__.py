"""What people read: the board of all versions, inbox, inventory, model and package pages, comparisons, and how sure the ledger is."""
