"""Does what is learnt help the decisions? Each learner on, and off."""
