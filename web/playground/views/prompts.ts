/** Samples for the views that are opened later. */

export const PART_TASKS = [
  "what are the causes AND solutions for slow API responses?",
  "first measure the checkout, then fix the slowest query, then write the release notes",
  "compare SQLite and PostgreSQL for a mobile app with offline sync",
  "how do I rotate the signing keys, and who has to be told before it happens?",
];

export const NOTES = [
  "The staging database is emptied every Monday at six.",
  "Deploys to production happen on Tuesdays and Thursdays, never before a holiday.",
  "A deploy needs two approvals, one of them from the team on call.",
  "The billing service belongs to Ada; Grace stands in for her.",
  "Invoices are written in cents, so that no sum is ever rounded.",
  "Backups of production are kept for thirty days in another region.",
  "A restore was last rehearsed in March and took forty minutes.",
];

export const QUESTION = "when does staging lose its data?";

/** For practice: a small model does well on these … */
export const EASY = [
  "rename this variable everywhere",
  "fix the typo in the heading",
  "write a docstring for this function",
  "sort these imports",
  "what does this regular expression match?",
  "translate this button label into French",
  "add a unit test for the add function",
  "format this JSON file",
  "suggest a title for this note",
  "sum this paragraph up in one line",
  "turn this list into a table",
  "add type hints to this helper",
  "which port does this compose file open?",
  "remove the console logging from this file",
  "write a polite reply that declines the meeting",
  "convert these dates to ISO format",
];

/** … and less well on these. */
export const HARD = [
  "design a consensus protocol that survives network partitions",
  "prove that this scheduling algorithm is optimal",
  "find the race condition in this lock-free queue",
  "plan the migration of our monolith into services without downtime",
  "derive the gradient of this loss and explain each step",
  "work out why the distributed transaction deadlocks under load",
  "compare three architectures for replication across regions and decide",
  "rework the compiler's register allocation so that it spills less",
  "explain what an attacker could do against this signature scheme",
  "optimise this query plan over five joins and two partitions",
  "design a fair rate limiter for thousands of tenants and prove its bounds",
  "diagnose the memory growth that shows only after a week in production",
  "choose an isolation level for the ledger and justify it against anomalies",
  "reconcile two diverged replicas without losing a single write",
  "estimate the capacity that Black Friday needs and show the reasoning",
  "find the flaw in this proof of termination",
];

export const ENDS = ["", "please", "today", "for the shop", "for the mobile team", "and keep it short", "before the release", "step by step"];
