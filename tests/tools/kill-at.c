/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills a process between two chosen instructions. Started by the tests of what a kill may cost.
 *
 *   kill-at PID at ADDRESS TIMES STEPS    STEPS instructions after ADDRESS was reached TIMES times
 *   kill-at PID before|after CALL TIMES STEPS
 *                                         at the entry to or exit of a system call by its number
 *
 * ADDRESS as the program's file has it. A process that is stopped is let go, and what counts is the
 * next program that it becomes. Watches the first thread only. Status 0: killed there, else: it did
 * not come there in time, and is killed all the same; 77: not here.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#ifdef __x86_64__

#define BREAKPOINT 0xccUL
/* A process that never comes there is not waited for longer; it is killed then, too. */
#define LIMIT_SECONDS 20
/* Numbers of signals, and what stops at system calls have on top. */
#define STOP_AT_CALL (SIGTRAP | 0x80)
#define STOP_AT_EXEC (SIGTRAP | (PTRACE_EVENT_EXEC << 8))
#define STOP_OF_ALL  (SIGSTOP | (PTRACE_EVENT_STOP << 8))

static struct {
	pid_t pid;
	bool after;
	unsigned long where, times, steps;
	long word; /* what the breakpoint is written over */
} all;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Continues by the request until the process stops again; the signal it stopped with. */
static int go(int request, int number)
{
	int status;

	if (ptrace(request, all.pid, NULL, (void *)(uintptr_t)number) < 0)
		die("continue");
	if (waitpid(all.pid, &status, __WALL) < 0)
		die("wait");
	if (!WIFSTOPPED(status)) {
		fprintf(stderr, "it ended before\n");
		exit(1);
	}
	return status >> 8;
}

/* A signal that is the process's own is handed on. */
static int pass(int stopped)
{
	return stopped >> 8 ? 0 : stopped & 0xff;
}

static void step(void)
{
	int stopped = go(PTRACE_SINGLESTEP, 0);

	while (stopped != SIGTRAP)
		stopped = go(PTRACE_SINGLESTEP, pass(stopped));
}

static void write_word(long word)
{
	if (ptrace(PTRACE_POKETEXT, all.pid, (void *)all.where, (void *)word) < 0)
		die("write");
}

/* Stands before the instruction at the address, which is there again. */
static void reach_address(void)
{
	struct user_regs_struct registers;

	errno = 0;
	all.word = ptrace(PTRACE_PEEKTEXT, all.pid, (void *)all.where, NULL);
	if (errno)
		die("read");
	for (;;) {
		int stopped;

		write_word((long)(((unsigned long)all.word & ~0xffUL) | BREAKPOINT));
		stopped = go(PTRACE_CONT, 0);
		while (stopped != SIGTRAP)
			stopped = go(PTRACE_CONT, pass(stopped));
		write_word(all.word);
		if (ptrace(PTRACE_GETREGS, all.pid, NULL, &registers) < 0)
			die("registers");
		if (registers.rip != all.where + 1) {
			fprintf(stderr, "a trap of another's\n");
			exit(1);
		}
		registers.rip = all.where;
		if (ptrace(PTRACE_SETREGS, all.pid, NULL, &registers) < 0)
			die("registers");
		if (--all.times == 0)
			return;
		step();
	}
}

static void reach_call(void)
{
	const unsigned int wanted =
		all.after ? PTRACE_SYSCALL_INFO_EXIT : PTRACE_SYSCALL_INFO_ENTRY;
	unsigned long entered = (unsigned long)-1;
	int number = 0;

	for (;;) {
		struct ptrace_syscall_info info;
		int stopped = go(PTRACE_SYSCALL, number);

		number = pass(stopped);
		if (stopped != STOP_AT_CALL)
			continue;
		number = 0;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, all.pid, (void *)sizeof(info), &info) < 0)
			die("system call");
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
			entered = info.entry.nr;
		if (info.op == wanted && entered == all.where && --all.times == 0)
			return;
	}
}

/* Where the program lies. */
static unsigned long base(void)
{
	char path[64], program[4096], line[4352];
	unsigned long begin = 0;
	ssize_t size;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/exe", all.pid);
	size = readlink(path, program, sizeof(program) - 1);
	if (size < 0)
		die(path);
	program[size] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/maps", all.pid);
	maps = fopen(path, "r");
	while (maps && !begin && fgets(line, sizeof(line), maps))
		if (strstr(line, program))
			begin = strtoul(line, NULL, 16);
	if (!begin)
		die(path);
	fclose(maps);
	return begin;
}

static void attach(void)
{
	const uintptr_t options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC;
	int status, stopped = 0;

	if (ptrace(PTRACE_SEIZE, all.pid, NULL, (void *)options) < 0 ||
	    ptrace(PTRACE_INTERRUPT, all.pid, NULL, NULL) < 0 ||
	    waitpid(all.pid, &status, __WALL) < 0)
		die("attach");
	if (!WIFSTOPPED(status)) {
		fprintf(stderr, "it ended before\n");
		exit(1);
	}
	if (status >> 8 != STOP_OF_ALL)
		return;
	if (kill(all.pid, SIGCONT) < 0)
		die("continue");
	while (stopped != STOP_AT_EXEC)
		stopped = go(PTRACE_CONT, pass(stopped));
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: kill-at PID at|before|after WHERE TIMES STEPS\n");
		return 2;
	}
	all.pid = (pid_t)strtol(argv[1], NULL, 10);
	all.after = !strcmp(argv[2], "after");
	all.where = strtoul(argv[3], NULL, 0);
	all.times = strtoul(argv[4], NULL, 10);
	all.steps = strtoul(argv[5], NULL, 10);
	alarm(LIMIT_SECONDS);
	attach();
	if (!strcmp(argv[2], "at")) {
		all.where += base();
		reach_address();
	} else {
		reach_call();
	}
	while (all.steps--)
		step();
	if (kill(all.pid, SIGKILL) < 0)
		die("kill");
	waitpid(all.pid, NULL, __WALL);
	return 0;
}

#else

int main(void)
{
	fprintf(stderr, "not on this processor\n");
	return 77;
}

#endif
