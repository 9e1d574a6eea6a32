#!/bin/sh
# Pack the report and the figures behind it, and leave a checksum beside the archive.
set -eu
cd "$HEADRACE_ARG_OUT"

tar -czf flights.tar.gz.part report.html totals.json months
mv flights.tar.gz.part flights.tar.gz
if command -v sha256sum > /dev/null; then
  sha256sum flights.tar.gz > flights.tar.gz.sha256
else
  shasum -a 256 flights.tar.gz > flights.tar.gz.sha256
fi

echo "packed $(wc -c < flights.tar.gz) bytes" >&2
printf '{"archive": "%s/flights.tar.gz", "sha256": "%s", "bytes": %d}\n' \
  "$PWD" "$(cut -d ' ' -f 1 flights.tar.gz.sha256)" "$(wc -c < flights.tar.gz)"
