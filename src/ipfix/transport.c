/* SPDX-License-Identifier: Apache-2.0 */
/* What all transports share: construction and the queue. See transport.h. */
#include "ipfix/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/macro.h"

#define SEQUENCE_OFFSET 8

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
	transport->slip = options->mark ? &options->mark->slip : calloc(1, sizeof(struct fm_slip));
	if (!transport->slip) {
		ops->free(transport);
		return -ENOMEM;
	}
	fm_slip_init(transport->slip);
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
	if (!transport->options.mark)
		free(transport->slip);
	transport->ops->free(transport);
	return NULL;
}

void fm_transport_move(struct fm_transport *transport, const struct sockaddr_storage *address,
		       socklen_t size, uint64_t now_ns)
{
	transport->options.address = *address;
	transport->options.address_size = size;
	transport->ops->move(transport, now_ns);
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

void fm_transport_prepend(struct fm_transport *transport, struct fm_message *message)
{
	message->next = transport->first;
	transport->first = message;
	if (!transport->last)
		transport->last = message;
	transport->waiting++;
	transport->waiting_octets += message->size;
}

void fm_transport_lose(struct fm_transport *transport, const uint8_t *message, size_t size,
		       const struct fm_message_info *info, enum fm_not_sent cause)
{
	const struct fm_transport_options *options = &transport->options;

	if (!options->unsent || !options->unsent(options->userdata, message, size, info))
		options->lost(options->userdata, info, size, cause);
}

bool fm_transport_push(struct fm_transport *transport, const uint8_t *data, size_t size,
		       const struct fm_message_info *info)
{
	enum fm_not_sent cause = FM_NOT_SENT_queue_full;
	struct fm_message *message = NULL;
	/* Without its template what comes later is worth nothing. */
	size_t most = transport->options.queue_octets * (info->is_template ? 2 : 1);

	if (transport->waiting_octets + size <= most) {
		message = malloc(sizeof(*message) + size);
		cause = FM_NOT_SENT_not_encoded;
	}
	if (!message) {
		fm_transport_lose(transport, data, size, info, cause);
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

void fm_transport_pop_lost(struct fm_transport *transport, enum fm_not_sent cause)
{
	_fm_cleanup_free_ struct fm_message *message = fm_transport_take(transport);

	fm_transport_lose(transport, message->data, message->size, &message->info, cause);
}

void fm_transport_lose_all(struct fm_transport *transport, enum fm_not_sent cause)
{
	while (transport->first)
		fm_transport_pop_lost(transport, cause);
}

void fm_transport_keep_records(struct fm_transport *transport)
{
	for (size_t n = transport->waiting; n > 0; n--) {
		transport->first->done = 0;
		if ((transport->first->info.records || transport->first->info.is_kept) &&
		    !transport->first->info.spool_id)
			fm_transport_append(transport, fm_transport_take(transport));
		else
			fm_transport_pop_lost(transport, FM_NOT_SENT_disconnected);
	}
}

void fm_numbers_put(struct fm_numbers *numbers, struct fm_message *message)
{
	unsigned int i = 0;
	uint32_t sequence;

	while (i < numbers->n && numbers->v[i].domain != message->info.domain)
		i++;
	if (i == numbers->n) {
		/*
		 * A session has its own domain and 0, a spool those of earlier ones. Of more than
		 * anybody configures the last share a place, and begin at 0 again.
		 */
		if (i == FM_ARRAY_SIZE(numbers->v))
			i = --numbers->n;
		numbers->v[i].domain = message->info.domain;
		numbers->v[i].next = 0;
		numbers->n++;
	}
	sequence = htonl(numbers->v[i].next);
	memcpy(message->data + SEQUENCE_OFFSET, &sequence, sizeof(sequence));
	numbers->v[i].next += message->info.sequenced;
}

struct fm_message *fm_transport_recall(struct fm_transport *transport, struct fm_numbers *numbers,
				       size_t octets)
{
	struct fm_message *list = fm_transport_take_all(transport);

	if (!numbers)
		return list;
	for (size_t kept = 0; list && kept < octets;) {
		struct fm_message *message = list;

		list = message->next;
		kept += message->size - message->done;
		fm_transport_append(transport, message);
	}
	for (const struct fm_message *message = list; message; message = message->next)
		for (unsigned int i = 0; i < numbers->n; i++)
			if (numbers->v[i].domain == message->info.domain)
				numbers->v[i].next -= message->info.sequenced;
	return list;
}

/* Templates that count nothing and go before what was numbered earlier: not a gap, nor a step back.
 */
static void number_as_first(struct fm_transport *transport, const struct fm_message *waiting)
{
	for (struct fm_message *message = transport->first; message; message = message->next) {
		const struct fm_message *next = waiting;

		while (next && next->info.domain != message->info.domain)
			next = next->next;
		if (next && !message->info.sequenced)
			memcpy(message->data + SEQUENCE_OFFSET, next->data + SEQUENCE_OFFSET,
			       sizeof(uint32_t));
	}
}

void fm_transport_begin(struct fm_transport *transport, struct fm_numbers *numbers)
{
	struct fm_message *waiting = fm_transport_take_all(transport);

	if (numbers)
		numbers->n = 0;
	transport->options.begun(transport->options.userdata);
	if (!numbers)
		number_as_first(transport, waiting);
	while (waiting) {
		struct fm_message *message = waiting;

		waiting = message->next;
		if (numbers)
			fm_numbers_put(numbers, message);
		fm_transport_append(transport, message);
	}
}

uint64_t fm_transport_retry_ns(const struct fm_transport *transport, uint64_t now_ns)
{
	uint64_t interval = transport->options.reconnect_ns;
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	return now_ns + interval + (interval / 4 >> 16) * (random >> 16);
}
