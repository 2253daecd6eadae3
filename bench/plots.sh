#!/usr/bin/env bash
# Draws what docs/benchmarks.md shows, from results of survey.sh and of claim flat-partitions (gnuplot and jq).
#   plots.sh SURVEY_DIR FLAT_PARTITIONS.json OUT_DIR
# OUT_DIR/over-time.svg, percentiles.svg, load.svg, partitions.svg. A result that is not there leaves its plot out. Exit: 1 nothing drawn, 2 usage.
set -euo pipefail
[ $# -eq 3 ] && command -v gnuplot >/dev/null && command -v jq >/dev/null || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
survey=$1 flat=$2 out=$3
mkdir -p "$out"
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
drawn=0

# plot NAME XLABEL YLABEL: gnuplot's commands come on standard input
plot() {
  { cat <<TEXT
set terminal svg size 760,380 font "sans-serif,12" background "white"
set output "$out/$1.svg"
set xlabel "$2"
set ylabel "$3"
set grid lc rgb "#dddddd"
set border 3
set tics nomirror
set key left top
TEXT
    cat
  } | gnuplot
  drawn=$((drawn + 1))
  echo "$out/$1.svg"
}

if [ -s "$survey/records-1KiB.json" ]; then
  jq -r '.series[] | select(.p50_us and .p99_us) | "\((.begin_s + .end_s) / 2) \(.records_per_s / 1e6) \(.p50_us / 1e3) \(.p99_us / 1e3)"' "$survey/records-1KiB.json" >"$data/series"
  plot over-time "seconds" "million records of 1 KiB a second" <<TEXT
set y2label "ms from send to ack"
set y2tics
set yrange [0:]
set y2range [0:]
plot "$data/series" using 1:2 with linespoints lw 2 pt 7 ps 0.4 title "rate", \
     "" using 1:3 axes x1y2 with lines lw 2 title "p50", "" using 1:4 axes x1y2 with lines lw 2 title "p99"
TEXT
fi

# Of records that were sent one at a time, and of those of a steady load.
if [ -s "$survey/load-lone.json" ]; then
  jq -r '.percentiles_us[] | select(.[0] < 1) | "\(1 / (1 - .[0])) \(.[1])"' "$survey/load-lone.json" >"$data/lone"
  jq -r '.percentiles_us[] | select(.[0] < 1) | "\(1 / (1 - .[0])) \(.[1])"' "$survey/readers-1.json" >"$data/top" 2>/dev/null || : >"$data/top"
  plot percentiles "percentile" "us to the ack" <<TEXT
set logscale xy
set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000, "99.99" 10000)
plot "$data/lone" with linespoints lw 2 pt 7 ps 0.4 title "one at a time", "$data/top" with linespoints lw 2 pt 7 ps 0.4 title "640,000 a second, with a consumer"
TEXT
fi

if [ -s "$survey/load-sweep.json" ]; then
  jq -r '.curve | sort_by(.offered_per_s)[] | select(.p50_us) | "\(.offered_per_s / 1e6) \(.p50_us / 1e3) \(.p99_us / 1e3) \(.p99_9_us / 1e3)"' "$survey/load-sweep.json" >"$data/load"
  plot load "million records of 1 KiB a second, offered" "ms from due to ack" <<TEXT
set logscale y
plot "$data/load" using 1:2 with linespoints lw 2 pt 7 ps 0.4 title "p50", "" using 1:3 with linespoints lw 2 pt 7 ps 0.4 title "p99", \
     "" using 1:4 with linespoints lw 2 pt 7 ps 0.4 title "p99.9"
TEXT
fi

if [ -s "$flat" ]; then
  jq -r '.partitions[] | "\(.partitions) \(.records_per_s / 1e6) \(.p99_us / 1e3)"' "$flat" >"$data/flat"
  plot partitions "partitions" "million records of 1 KiB a second" <<TEXT
set logscale x
set y2label "ms, p99 at 30 % of the load"
set y2tics
set yrange [0:]
set y2range [0:]
plot "$data/flat" using 1:2 with linespoints lw 2 pt 7 ps 0.6 title "top rate", "" using 1:3 axes x1y2 with linespoints lw 2 pt 7 ps 0.6 title "p99"
TEXT
fi
[ $drawn -gt 0 ] || { echo "plots.sh: there is nothing to draw in $survey" >&2; exit 1; }
