/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A collector for tests: IPFIX over TCP, decoded by libfixbuf, each record a JSON object a line
 * with the names of its elements as keys. Started by the end-to-end tests.
 *
 *   ipfix-tcp-listener [-q] HOST PORT
 *
 * -q: no records, only events and sums. HOST and PORT are numbers. Events are objects with the key
 * "event": listening, connected, closed, error, sum. Everything a careful collector would mind is
 * an error: broken framing, sets without template, sequence numbers that jump, records or messages
 * of another version. Ends with SIGTERM or SIGINT, after what has arrived was read; status 0 if
 * there was no error.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fixbuf/public.h>

#define CONNECTIONS_MAX 16
#define LAYOUTS_MAX	128
#define DOMAINS_MAX	8
#define HEADER		16
#define NTP_EPOCH	2208988800
/* After the signal, a connection that is silent for this long has nothing more. */
#define DRAIN_MS 200

/* An external template and the internal one that reads it as it is. */
struct layout {
	uint32_t domain;
	uint16_t id, internal;
	fbTemplate_t *external, *template;
	size_t size;
};

struct domain {
	uint32_t id, expected;
	bool known;
};

struct connection {
	int fd;
	unsigned int number;
	fBuf_t *buffer;
	fbSession_t *session;
	struct layout layouts[LAYOUTS_MAX];
	size_t n_layouts;
	struct domain domains[DOMAINS_MAX];
	uint8_t data[2 * 65536];
	size_t size;
};

static struct {
	bool quiet;
	fbInfoModel_t *model;
	struct connection *connections[CONNECTIONS_MAX];
	unsigned int accepted;
	uint64_t messages, octets_read, records, options, packets, octets, errors;
} all;

static void error_event(const struct connection *connection, const char *text)
{
	all.errors++;
	printf("{\"event\":\"error\",\"connection\":%u,\"text\":\"",
	       connection ? connection->number : 0);
	for (; *text; text++)
		putchar(*text == '"' || *text == '\\' || *text < ' ' ? ' ' : *text);
	printf("\"}\n");
}

static void on_library_log(const gchar *domain, GLogLevelFlags level, const gchar *text,
			   gpointer userdata)
{
	error_event(NULL, text);
}

static uint64_t get(const uint8_t *at, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, at, size); /* host order, least octet first */
	return value;
}

static uint64_t get_network(const uint8_t *at, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value = value << 8 | at[i];
	return value;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* Elements that nobody told the type of before the template came have only a number. */
static void print_key(const fbInfoElement_t *element)
{
	if (element->flags & FB_IE_F_ALIEN)
		printf("\"%u/%u\":", element->ent, element->num);
	else
		printf("\"%s\":", element->ref.canon->ref.name);
}

static void print_text(const uint8_t *at, size_t size)
{
	putchar('"');
	for (size_t i = 0; i < size && at[i]; i++)
		putchar(at[i] == '"' || at[i] == '\\' || at[i] < ' ' ? '?' : at[i]);
	putchar('"');
}

static void print_address(int family, const uint8_t *at)
{
	char text[INET6_ADDRSTRLEN];

	printf("\"%s\"", inet_ntop(family, at, text, sizeof(text)));
}

static void print_octets(const uint8_t *at, size_t size)
{
	putchar('"');
	for (size_t i = 0; i < size; i++)
		printf("%02x", at[i]);
	putchar('"');
}

/* Octets in a record of ours. */
static size_t size_of(const fbInfoElement_t *element)
{
	return element->len == FB_IE_VARLEN ? sizeof(fbVarfield_t) : element->len;
}

static void print_value(const fbInfoElement_t *element, const uint8_t *at)
{
	uint64_t value = element->len <= 8 ? get(at, element->len) : 0;
	uint32_t address = htonl((uint32_t)value);

	switch (element->type) {
	case FB_IP4_ADDR:
		print_address(AF_INET, (const uint8_t *)&address);
		break;
	case FB_IP6_ADDR:
		print_address(AF_INET6, at);
		break;
	case FB_STRING:
		if (element->len == FB_IE_VARLEN) {
			fbVarfield_t text;

			memcpy(&text, at, sizeof(text));
			print_text(text.buf, text.len);
		} else {
			print_text(at, element->len);
		}
		break;
	case FB_DT_NANOSEC:
		printf("%" PRIu64,
		       ((value >> 32) - NTP_EPOCH) * 1000000000 +
			       (((value & UINT32_MAX) * 1000000000 + UINT32_MAX) >> 32));
		break;
	case FB_UINT_8 ... FB_UINT_64:
	case FB_DT_SEC:
	case FB_DT_MILSEC:
		printf("%" PRIu64, value);
		break;
	default: /* of no known type: left as it came */
		if (element->len == 1 || element->len == 2 || element->len == 4 ||
		    element->len == 8)
			printf("%" PRIu64, get_network(at, element->len));
		else
			print_octets(at, element->len);
	}
}

/* Types of own elements (RFC 5610), from an options record about them, into the library's model. */
static void learn_type(const struct layout *layout, const uint8_t *record)
{
	uint32_t n = fbTemplateCountElements(layout->template);
	fbInfoElementOptRec_t type = {};

	if (!fbInfoModelTypeInfoRecord(layout->template))
		return;
	for (uint32_t i = 0; i < n; i++) {
		const fbInfoElement_t *element = fbTemplateGetIndexedIE(layout->template, i);
		uint64_t value = element->len <= 8 ? get(record, element->len) : 0;
		fbVarfield_t text = {};

		if (element->len == FB_IE_VARLEN)
			memcpy(&text, record, sizeof(text));
		record += size_of(element);
		switch (element->num) {
		case 346:
			type.ie_pen = (uint32_t)value;
			break;
		case 303:
			type.ie_id = (uint16_t)value;
			break;
		case 339:
			type.ie_type = (uint8_t)value;
			break;
		case 344:
			type.ie_semantic = (uint8_t)value;
			break;
		case 345:
			type.ie_units = (uint16_t)value;
			break;
		case 342:
			type.ie_range_begin = value;
			break;
		case 343:
			type.ie_range_end = value;
			break;
		case 341:
			type.ie_name = text;
			break;
		case 340:
			type.ie_desc = text;
			break;
		}
	}
	fbInfoElementAddOptRecElement(all.model, &type);
}

static void account(const struct layout *layout, const uint8_t *record)
{
	uint32_t n = fbTemplateCountElements(layout->template);
	const uint8_t *at = record;

	for (uint32_t i = 0; i < n; i++) {
		const fbInfoElement_t *element = fbTemplateGetIndexedIE(layout->template, i);

		if (element->ent == 0 || element->ent == FB_IE_PEN_REVERSE) {
			if (element->num == 1)
				all.octets += get(at, element->len);
			else if (element->num == 2)
				all.packets += get(at, element->len);
		}
		at += size_of(element);
	}
}

static void print_record(const struct connection *connection, const struct layout *layout,
			 const uint8_t *record)
{
	uint32_t n = fbTemplateCountElements(layout->template);
	const uint8_t *at = record;

	printf("{\"connection\":%u,\"domain\":%u,\"template\":%u", connection->number,
	       layout->domain, layout->id);
	if (fbTemplateGetOptionsScope(layout->template))
		printf(",\"options\":true");
	for (uint32_t i = 0; i < n; i++) {
		const fbInfoElement_t *element = fbTemplateGetIndexedIE(layout->template, i);

		putchar(',');
		print_key(element);
		print_value(element, at);
		at += size_of(element);
	}
	printf("}\n");
}

/* An internal template of the same elements and lengths: records are only turned to host order. */
static bool mirror(struct connection *connection, struct layout *layout)
{
	uint32_t n = fbTemplateCountElements(layout->external);
	uint16_t scope = (uint16_t)fbTemplateGetOptionsScope(layout->external);
	GError *error = NULL;

	layout->template = fbTemplateAlloc(all.model);
	layout->size = 0;
	for (uint32_t i = 0; i < n; i++) {
		fbInfoElement_t *element = fbTemplateGetIndexedIE(layout->external, i);

		if (!fbTemplateAppend(layout->template, element, &error)) {
			error_event(connection, error->message);
			g_clear_error(&error);
			return false;
		}
		layout->size += size_of(element);
	}
	if (scope)
		fbTemplateSetOptionsScope(layout->template, scope);
	layout->internal = fbSessionAddTemplate(connection->session, TRUE, FB_TID_AUTO,
						layout->template, &error);
	if (layout->internal)
		return true;
	error_event(connection, error->message);
	g_clear_error(&error);
	return false;
}

static struct layout *find_layout(struct connection *connection, uint32_t domain, uint16_t id,
				  fbTemplate_t *external)
{
	struct layout *layout = connection->layouts;
	struct layout *end = layout + connection->n_layouts;

	while (layout < end && (layout->domain != domain || layout->id != id))
		layout++;
	if (layout < end && layout->external == external)
		return layout;
	if (layout == end) {
		if (connection->n_layouts == LAYOUTS_MAX)
			return NULL;
		connection->n_layouts++;
	}
	layout->domain = domain;
	layout->id = id;
	layout->external = external;
	return mirror(connection, layout) ? layout : NULL;
}

/* One record. False: no more in this message. */
static bool read_record(struct connection *connection, uint32_t domain, unsigned int *n)
{
	uint8_t record[4096];
	size_t size = sizeof(record);
	GError *error = NULL;
	uint16_t id;
	fbTemplate_t *external = fBufNextCollectionTemplate(connection->buffer, &id, &error);
	struct layout *layout;

	if (!external || !(layout = find_layout(connection, domain, id, external)) ||
	    layout->size > sizeof(record) ||
	    !fBufSetInternalTemplate(connection->buffer, layout->internal, &error) ||
	    !fBufNext(connection->buffer, record, &size, &error)) {
		if (error && !g_error_matches(error, FB_ERROR_DOMAIN, FB_ERROR_EOM) &&
		    !g_error_matches(error, FB_ERROR_DOMAIN, FB_ERROR_BUFSZ))
			error_event(connection, error->message);
		g_clear_error(&error);
		return false;
	}
	(*n)++;
	if (fbTemplateGetOptionsScope(layout->template)) {
		all.options++;
		learn_type(layout, record);
	} else {
		all.records++;
		account(layout, record);
	}
	if (!all.quiet)
		print_record(connection, layout, record);
	return true;
}

/* Sequence numbers count data records, for each transport session and domain (RFC 7011 3.1). */
static void check_sequence(struct connection *connection, uint32_t domain, uint32_t sequence,
			   unsigned int n)
{
	char text[128];

	for (unsigned int i = 0; i < DOMAINS_MAX; i++) {
		struct domain *entry = &connection->domains[i];

		if (entry->known && entry->id != domain)
			continue;
		if (sequence != entry->expected) {
			snprintf(text, sizeof(text), "sequence of domain %u: %u, expected %u",
				 domain, sequence, entry->expected);
			error_event(connection, text);
		}
		*entry = (struct domain){domain, sequence + n, true};
		return;
	}
	error_event(connection, "too many domains");
}

static void read_message(struct connection *connection, uint8_t *message, size_t size)
{
	uint32_t sequence = get32(message + 8), domain = get32(message + 12);
	unsigned int n = 0;

	all.messages++;
	fBufSetBuffer(connection->buffer, message, size);
	while (read_record(connection, domain, &n))
		;
	check_sequence(connection, domain, sequence, n);
}

/* Takes the whole messages of what was read. False: this is no IPFIX. */
static bool read_messages(struct connection *connection)
{
	size_t at = 0;

	while (connection->size - at >= HEADER) {
		uint8_t *message = connection->data + at;
		uint16_t size = get16(message + 2);

		if (get16(message) != 10 || size < HEADER) {
			error_event(connection, "not a message header");
			return false;
		}
		if (connection->size - at < size)
			break;
		read_message(connection, message, size);
		at += size;
	}
	memmove(connection->data, connection->data + at, connection->size - at);
	connection->size -= at;
	return true;
}

static void connection_close(struct connection *connection)
{
	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++)
		if (all.connections[i] == connection)
			all.connections[i] = NULL;
	printf("{\"event\":\"closed\",\"connection\":%u,\"rest\":%zu}\n", connection->number,
	       connection->size);
	close(connection->fd);
	fBufFree(connection->buffer);
	free(connection);
}

static void connection_read(struct connection *connection)
{
	ssize_t n = recv(connection->fd, connection->data + connection->size,
			 sizeof(connection->data) - connection->size, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		all.octets_read += (uint64_t)n;
		connection->size += (size_t)n;
	}
	if (n <= 0 || !read_messages(connection))
		connection_close(connection);
}

static void connection_accept(int listener)
{
	int fd = accept(listener, NULL, NULL);
	struct connection *connection;
	GError *error = NULL;

	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++) {
		if (fd < 0 || all.connections[i])
			continue;
		connection = calloc(1, sizeof(*connection));
		if (!connection)
			break;
		connection->fd = fd;
		connection->number = ++all.accepted;
		connection->session = fbSessionAlloc(all.model);
		connection->buffer = fBufAllocForCollection(connection->session, NULL);
		fBufSetAutomaticMode(connection->buffer, FALSE);
		all.connections[i] = connection;
		printf("{\"event\":\"connected\",\"connection\":%u}\n", connection->number);
		g_clear_error(&error);
		return;
	}
	error_event(NULL, "cannot accept");
	if (fd >= 0)
		close(fd);
}

static int open_listener(const char *host, const char *port)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
	};
	struct addrinfo *address;
	int fd, on = 1;

	if (getaddrinfo(host, port, &hints, &address) != 0)
		return -EINVAL;
	fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, 16) < 0)
		fd = -errno;
	freeaddrinfo(address);
	return fd;
}

/* Waits for anything; true if there was something. */
static bool step(int listener, int signals, int timeout_ms, bool *stop)
{
	struct pollfd fds[CONNECTIONS_MAX + 2] = {
		{.fd = listener, .events = POLLIN},
		{.fd = signals, .events = POLLIN},
	};
	struct connection *polled[CONNECTIONS_MAX + 2] = {};
	unsigned int n = 2;
	int ready;

	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++)
		if (all.connections[i]) {
			polled[n] = all.connections[i];
			fds[n] = (struct pollfd){.fd = polled[n]->fd, .events = POLLIN};
			n++;
		}
	ready = poll(fds, n, timeout_ms);
	if (ready <= 0)
		return ready < 0 && errno == EINTR;
	if (fds[0].revents)
		connection_accept(listener);
	if (fds[1].revents && !*stop)
		*stop = true;
	for (unsigned int i = 2; i < n; i++)
		if (fds[i].revents)
			connection_read(polled[i]);
	fflush(stdout);
	return true;
}

static int run(const char *host, const char *port)
{
	int listener = open_listener(host, port), signals;
	bool stop = false;
	sigset_t set;

	if (listener < 0) {
		fprintf(stderr, "%s port %s: %s\n", host, port, strerror(-listener));
		return EXIT_FAILURE;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	printf("{\"event\":\"listening\"}\n");
	fflush(stdout);
	while (!stop)
		step(listener, signals, -1, &stop);
	while (step(listener, -1, DRAIN_MS, &stop))
		;
	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++)
		if (all.connections[i])
			connection_close(all.connections[i]);
	printf("{\"event\":\"sum\",\"connections\":%u,\"messages\":%" PRIu64 ",\"read\":%" PRIu64
	       ",\"records\":%" PRIu64 ",\"options\":%" PRIu64 ",\"packets\":%" PRIu64
	       ",\"octets\":%" PRIu64 ",\"errors\":%" PRIu64 "}\n",
	       all.accepted, all.messages, all.octets_read, all.records, all.options, all.packets,
	       all.octets, all.errors);
	close(listener);
	close(signals);
	return all.errors ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	int option, r;

	while ((option = getopt(argc, argv, "q")) == 'q')
		all.quiet = true;
	if (option != -1 || argc - optind != 2) {
		fprintf(stderr, "usage: ipfix-tcp-listener [-q] HOST PORT\n");
		return EXIT_FAILURE;
	}
	g_log_set_default_handler(on_library_log, NULL);
	all.model = fbInfoModelAlloc();
	r = run(argv[optind], argv[optind + 1]);
	fbInfoModelFree(all.model);
	return r;
}
