#!/usr/bin/env bash
# Every line of the request in capitals, one every half second: each is sent when it is printed.
while IFS= read -r line || [ -n "$line" ]; do
  printf '%s\n' "${line^^}"
  sleep 0.5
done
printf 'That was %s %s.\n' "$Http_Method" "$Http_Path"
