/* SPDX-License-Identifier: Apache-2.0 */
/* What all transports share: construction and the queue. See transport.h. */
#include "ipfix/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int fm_transport_new(struct fm_transport **ret, const struct fm_transport_ops *ops,
		     const struct fm_transport_options *options)
{
	struct fm_transport *transport = ops->new (options);

	if (!transport)
		return -ENOMEM;
	transport->ops = ops;
	transport->options = *options;
	transport->fd = -1;
	transport->deadline_ns = UINT64_MAX;
	*ret = transport;
	return 0;
}

struct fm_transport *fm_transport_free(struct fm_transport *transport)
{
	if (!transport)
		return NULL;
	transport->ops->stop(transport);
	if (transport->fd >= 0)
		close(transport->fd);
	transport->ops->free(transport);
	return NULL;
}

void fm_transport_append(struct fm_transport *transport, struct fm_message *message)
{
	message->next = NULL;
	if (transport->last)
		transport->last->next = message;
	else
		transport->first = message;
	transport->last = message;
	transport->waiting++;
	transport->waiting_octets += message->size;
}

bool fm_transport_push(struct fm_transport *transport, const uint8_t *data, size_t size,
		       const struct fm_message_info *info)
{
	struct fm_message *message = NULL;
	/* Without its template what comes later is worth nothing. */
	size_t most = transport->options.queue_octets * (info->is_template ? 2 : 1);

	if (transport->waiting_octets + size <= most)
		message = malloc(sizeof(*message) + size);
	if (!message) {
		transport->options.lost(transport->options.userdata, info, size);
		return false;
	}
	message->info = *info;
	message->size = size;
	message->done = 0;
	memcpy(message->data, data, size);
	fm_transport_append(transport, message);
	return true;
}

struct fm_message *fm_transport_take(struct fm_transport *transport)
{
	struct fm_message *message = transport->first;

	transport->first = message->next;
	if (!transport->first)
		transport->last = NULL;
	transport->waiting--;
	transport->waiting_octets -= message->size;
	return message;
}

struct fm_message *fm_transport_take_all(struct fm_transport *transport)
{
	struct fm_message *first = transport->first;

	transport->first = transport->last = NULL;
	transport->waiting = transport->waiting_octets = 0;
	return first;
}

void fm_transport_pop_sent(struct fm_transport *transport)
{
	_fm_cleanup_free_ struct fm_message *message = fm_transport_take(transport);

	transport->options.sent(transport->options.userdata, &message->info, message->size);
}

void fm_transport_pop_lost(struct fm_transport *transport)
{
	_fm_cleanup_free_ struct fm_message *message = fm_transport_take(transport);

	transport->options.lost(transport->options.userdata, &message->info, message->size);
}

void fm_transport_lose_all(struct fm_transport *transport)
{
	while (transport->first)
		fm_transport_pop_lost(transport);
}
