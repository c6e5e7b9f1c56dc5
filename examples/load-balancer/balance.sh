#!/bin/sh
# Event handler: keeps a load balancer's list of servers in step with the cluster's members of one role.
#
#   serfling agent -tag=role=lb \
#     -event-handler='member-join,member-update,member-leave,member-failed,member-reap=/etc/serfling/balance.sh'
#
# A server is `serfling agent -tag=role=web -tag=port=8080`. Settings, from the agent's environment:
#
#   BALANCE_FORMAT  haproxy or nginx
#   BALANCE_ROLE    the role of the servers
#   BALANCE_HEAD    a file that goes in front of the list, such as haproxy.cfg up to the backend's servers
#   BALANCE_FILE    the file to write; it appears whole, and only when something has changed
#   BALANCE_RELOAD  a command to run after that
set -eu

format=${BALANCE_FORMAT:-haproxy}
role=${BALANCE_ROLE:-web}
head=${BALANCE_HEAD:-/dev/null}
file=${BALANCE_FILE:-/etc/haproxy/haproxy.cfg}
reload=${BALANCE_RELOAD:-systemctl reload haproxy}

case $SERF_EVENT in
  member-join | member-update) present=1 ;;
  member-leave | member-failed | member-reap) present=0 ;;
  *) exit 0 ;;
esac

# What is known is a line for each server: name, address with port. Standard input is what has changed: name, address,
# role and tags, with tabs between. Names that could be taken for more than a name are left out.
known=$file.servers
touch "$known"
awk -F '\t' -v known="$known" -v role="$role" -v present="$present" '
  BEGIN { while ((getline line < known) > 0) { split(line, part, " "); server[part[1]] = part[2] } }
  $1 !~ /^[A-Za-z0-9._-]+$/ { next }
  { delete server[$1] }
  present && $3 == role {
    port = 80
    count = split($4, tags, ",")
    for (i = 1; i <= count; i++) if (tags[i] ~ /^port=[0-9]+$/) port = substr(tags[i], 6)
    server[$1] = (index($2, ":") ? "[" $2 "]" : $2) ":" port
  }
  END { for (name in server) print name, server[name] }
' | sort > "$known.new"
mv "$known.new" "$known"

{
  cat "$head"
  case $format in
    haproxy) awk '{ print "    server " $1 " " $2 " check" }' "$known" ;;
    nginx)
      echo "upstream $role {"
      # An upstream without a server is an error.
      awk '{ print "    server " $2 ";  # " $1 } END { if (NR == 0) print "    server 127.0.0.1:9 down;" }' "$known"
      echo "}"
      ;;
  esac
} > "$file.new"

if cmp -s "$file.new" "$file"; then
  rm "$file.new"
else
  mv "$file.new" "$file"
  sh -c "$reload"
fi
