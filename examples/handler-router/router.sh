#!/bin/sh
# Event handler: runs the program that is called like the event, if there is one, in the folder HANDLERS.
#
#   HANDLERS=/etc/serfling/handlers serfling agent -event-handler=/etc/serfling/router.sh
#
#   /etc/serfling/handlers/member-join
#   /etc/serfling/handlers/user-deploy
#   /etc/serfling/handlers/query-uptime
#
# So handlers come, change and go without a word to the agent. What the program prints answers a query.
set -eu

case $SERF_EVENT in
  user) event=user-$SERF_USER_EVENT ;;
  query) event=query-$SERF_QUERY_NAME ;;
  *) event=$SERF_EVENT ;;
esac

# Anybody in the cluster may choose the name of an event.
case $event in
  */*)
    echo "no handler can be called $event" >&2
    exit 1
    ;;
esac

program=${HANDLERS:-/etc/serfling/handlers}/$event
if [ -f "$program" ] && [ -x "$program" ]; then
  exec "$program"
fi
