# By default everything is tried again that another attempt could change; retry_on narrows, give_up_on wins, and a task
# has its own word.
tasks:
  default: {retries: &r {attempts: 9, backoff: fixed, initial: 1, jitter: none}}
  status: {retries: *r}
  status2: {retries: *r}
  permanent: {retries: *r}
  told: {retries: {<<: *r, retry_on: [KeyError]}}
  after: {retries: *r}
  only: {retries: {<<: *r, retry_on: [OSError, "exit:75", "http:5xx"]}}
  only_exit: {retries: {<<: *r, retry_on: [OSError, "exit:70-79", "http:5xx"]}}
  only_http: {retries: {<<: *r, retry_on: [OSError, "exit:75", "http:5xx"]}}
  never: {retries: {<<: *r, give_up_on: [LookupError], retry_on: [Exception]}}
  odd_exit: {retries: {<<: *r, retry_on: ["exit:75"]}}
  odd_http: {retries: {<<: *r, give_up_on: ["http:503"]}}
====
start
    1 run.created
    owed: launch default#1, launch status#1, launch status2#1, launch permanent#1, launch told#1, launch after#1, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
default fails exit 1
    2 attempt.failed default #1 retry_at=1.0 failure=exit
    owed: launch default#2 at 1s, launch status#1, launch status2#1, launch permanent#1, launch told#1, launch after#1, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
status fails http 503
    3 attempt.failed status #1 retry_at=1.0 failure=http
    owed: launch default#2 at 1s, launch status#2 at 1s, launch status2#1, launch permanent#1, launch told#1, launch after#1, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
status2 fails http 404
    4 task.failed status2 #1 failure=http
    owed: launch default#2 at 1s, launch status#2 at 1s, launch permanent#1, launch told#1, launch after#1, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
permanent fails Odd permanent
    5 task.failed permanent #1 failure=Odd
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#1, launch after#1, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
told fails Odd retryable
    6 attempt.failed told #1 retry_at=1.0 failure=Odd
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#1, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
after fails Odd retryable after=7
    7 attempt.failed after #1 retry_at=7.0 failure=Odd
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#1, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
only fails ConnectionError bases=OSError,Exception
    8 attempt.failed only #1 retry_at=1.0 failure=ConnectionError
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#2 at 1s, launch only_exit#1, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
only_exit fails exit 75
    9 attempt.failed only_exit #1 retry_at=1.0 failure=exit
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#2 at 1s, launch only_exit#2 at 1s, launch only_http#1, launch never#1, launch odd_exit#1, launch odd_http#1
only_http fails http 502
    10 attempt.failed only_http #1 retry_at=1.0 failure=http
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#2 at 1s, launch only_exit#2 at 1s, launch only_http#2 at 1s, launch never#1, launch odd_exit#1, launch odd_http#1
never fails KeyError bases=LookupError,Exception
    11 task.failed never #1 failure=KeyError
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#2 at 1s, launch only_exit#2 at 1s, launch only_http#2 at 1s, launch odd_exit#1, launch odd_http#1
odd_exit fails exit 1
    12 task.failed odd_exit #1 failure=exit
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#2 at 1s, launch only_exit#2 at 1s, launch only_http#2 at 1s, launch odd_http#1
odd_http fails http 503
    13 task.failed odd_http #1 failure=http
    owed: launch default#2 at 1s, launch status#2 at 1s, launch told#2 at 1s, launch after#2 at 7s, launch only#2 at 1s, launch only_exit#2 at 1s, launch only_http#2 at 1s
states
    run running: default retrying, status retrying, status2 failed, permanent failed, told retrying, after retrying, only retrying, only_exit retrying, only_http retrying, never failed, odd_exit failed, odd_http failed
