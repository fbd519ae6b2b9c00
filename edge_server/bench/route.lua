-- wrk -t2 -c64 -d10s --latency -s edge_server/bench/route.lua http://127.0.0.1:3000
-- Tasks of which no two are alike, so that no answer comes from a cache.
local verbs = { "fix", "review", "document", "speed up", "add tests for", "deploy", "redesign", "debug" }
local things = { "the login page", "the checkout", "our CSV importer", "the search index", "a flaky job", "the Helm chart" }
local places = { "in production", "before the release", "for the mobile app", "without downtime", "after the upgrade" }

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  asked, wrong = 0, 0
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
end

function request()
  asked = asked + 1
  local text = string.format("%s %s %s #%d-%d", verbs[asked % #verbs + 1], things[asked % #things + 1],
    places[asked % #places + 1], number, asked)
  return wrk.format(nil, "/v1/route", nil, string.format('{"text": "%s"}', text))
end

function response(status)
  if status ~= 200 then wrong = wrong + 1 end
end

function done(summary, latency)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  local broken = summary.errors
  print(string.format("answers other than 200: %d; connect %d, read %d, write %d, timeout %d", bad,
    broken.connect, broken.read, broken.write, broken.timeout))
end
