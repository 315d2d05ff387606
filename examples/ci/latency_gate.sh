#!/bin/sh
# A latency gate for any CI: is CANDIDATE.onnx slower than BASELINE.onnx by more than MARGIN?
#
#     latency_gate.sh CANDIDATE.onnx BASELINE.onnx [MARGIN] [more options of `deploypipe bench`]
#
# Exit code 0: it is not slower, or nobody can tell (a warning; STRICT=1 makes that 3);
# 1: it is slower, or it crashed; 2, 4 and 5: nothing was measured, and the message says why.

candidate=${1:?CANDIDATE.onnx is missing} baseline=${2:?BASELINE.onnx is missing}
shift 2
margin=${1:-5%}
[ $# -gt 0 ] && shift

say() { # error|warning TEXT: an annotation on GitHub, a line elsewhere
    if [ -n "$GITHUB_ACTIONS" ]; then echo "::$1 title=latency::$2"; else echo "$1: $2"; fi
}

deploypipe bench "$candidate" "$baseline" --margin "$margin" "$@"
code=$?
case $code in
    0) ;;
    1) say error "$candidate is more than $margin slower than $baseline" ;;
    3)
        say warning "undecided whether $candidate is more than $margin slower than $baseline"
        [ "$STRICT" = 1 ] || code=0
        ;;
    *) say error "nothing was measured (exit code $code)" ;;
esac
exit $code
