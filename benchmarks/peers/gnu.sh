#!/bin/sh
# GNU grep and sort in the C locale: `gnu.sh CASE INPUT OUTPUT WORKERS PATTERN`.
set -eu
export LC_ALL=C
mkdir -p "$3"
case "$1" in
grep) grep -E -e "$5" "$2" >"$3/lines.txt" ;;
terasort) sort --parallel="$4" -S 2G -k1.1,1.10 -o "$3/sorted.txt" "$2" ;;
terasort-whole) sort --parallel="$4" -S 2G -o "$3/sorted.txt" "$2" ;;
*) echo "gnu.sh: no case $1" >&2; exit 2 ;;
esac
