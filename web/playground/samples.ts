/** Tasks to begin with. The last one has no agent, and the page should say so. */
export const TASKS = [
  "add unit tests for the auth module",
  "fix the memory leak in the cache module",
  "is our password reset safe against account takeover?",
  "review my pull request before I merge it",
  "checkout takes nine seconds, find out why",
  "what should I cook tonight?",
];

export const TEAM_TASKS = [
  "build a full-stack shop with login, tests and a deployment pipeline",
  "research vector databases, design the schema, then document it",
  "fix the crash on startup, add a regression test and update the README",
];

/** For the benchmark: everyday tasks of many kinds. */
export const BENCH = [
  ...TASKS,
  "turn these nested callbacks into async/await",
  "optimize database queries",
  "set up a GitHub Actions workflow with a build matrix",
  "write a README with a quick start",
  "compare message queues for an event driven backend",
  "elect a new leader when the raft node dies",
  "break the billing rewrite into two-week milestones",
  "design the data model of a booking system",
  "rename this variable everywhere",
  "train a classifier on the support tickets",
  "the build is red since Friday, please look",
  "add dark mode to the settings page",
  "write an OpenAPI description of the orders service",
];
