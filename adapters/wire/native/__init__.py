"""Workers AI's native inputs and results of every task, as types that check and describe them."""
