/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink: see netlink.h. */
#include "daemon/netlink.h"

#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/cleanup.h"

#define BUFFER_OCTETS 32768

/* An answer that is being read. */
struct answer {
	const struct nlmsghdr *request;
	void (*fn)(const struct nlmsghdr *header, void *userdata);
	void *userdata;
	bool done;
	bool interrupted;
	int result;
};

int fm_netlink_open(int *ret_fd)
{
	_fm_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	*ret_fd = FM_TAKE_FD(fd);
	return 0;
}

struct nlmsghdr *fm_netlink_put(char *buffer, uint16_t type, uint16_t flags, size_t size,
				void *ret_message)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);

	header->nlmsg_type = type;
	header->nlmsg_flags = NLM_F_REQUEST | flags;
	header->nlmsg_seq = 1;
	*(void **)ret_message = mnl_nlmsg_put_extra_header(header, size);
	return header;
}

/* Code at the head of an error message or of a dump's end. */
static int code_of(const struct nlmsghdr *header)
{
	if (mnl_nlmsg_get_payload_len(header) < sizeof(int))
		return 0;
	return *(const int *)mnl_nlmsg_get_payload(header);
}

static void read_message(struct answer *answer, const struct nlmsghdr *header)
{
	if (header->nlmsg_seq != answer->request->nlmsg_seq)
		return;
	if (header->nlmsg_flags & NLM_F_DUMP_INTR)
		answer->interrupted = true;
	if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
		answer->done = true;
		answer->result = code_of(header);
		return;
	}
	if (header->nlmsg_type < NLMSG_MIN_TYPE)
		return;
	if (answer->fn)
		answer->fn(header, answer->userdata);
}

int fm_netlink_talk(int fd, const struct nlmsghdr *request,
		    void (*fn)(const struct nlmsghdr *header, void *userdata), void *userdata)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct answer answer = {.request = request, .fn = fn, .userdata = userdata};
	char buffer[BUFFER_OCTETS] __attribute__((aligned(MNL_ALIGNTO)));

	assert(request->nlmsg_flags & (NLM_F_DUMP | NLM_F_ACK));
	while (sendto(fd, request, request->nlmsg_len, 0, (const struct sockaddr *)&kernel,
		      sizeof(kernel)) < 0)
		if (errno != EINTR)
			return -errno;
	while (!answer.done) {
		ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
		const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;
		int left = (int)size;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return -errno;
		for (; !answer.done && mnl_nlmsg_ok(header, left);
		     header = mnl_nlmsg_next(header, &left))
			read_message(&answer, header);
	}
	return answer.result == 0 && answer.interrupted ? -EINTR : answer.result;
}
