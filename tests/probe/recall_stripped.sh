#!/bin/sh
# A stripped program against the debug information of the one it was made of.
# usage: recall_stripped.sh RECALL STRIPPED WITH-DEBUG
exec "$1" -s -m 99 "$2=$3"
