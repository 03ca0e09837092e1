/*
 * Lets User-Mode Linux run on processors whose registers it does not know.
 *
 * It gives a process its floating point registers back with PTRACE_SETREGSET, in a buffer of the size
 * that it was built with. The kernel takes a buffer of its own size only (xstateregs_set in
 * arch/x86/kernel/fpu/regset.c), which is larger on a processor with AMX, and says EFAULT: the
 * machine panics before its first program. Loaded by LD_PRELOAD, this gives the kernel what it wants:
 * what the process has now, with what the machine says laid over its beginning.
 */

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Above all processors so far; the state with AMX is 11008 bytes. Not on the stack, which is small. */
static char whole[64 << 10] __attribute__((aligned(64)));

static long set_whole(long pid, const struct iovec *part)
{
	struct iovec all = { whole, sizeof(whole) };
	long failed = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all);

	if (failed)
		return failed;
	memcpy(whole, part->iov_base, part->iov_len < all.iov_len ? part->iov_len : all.iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

/* As in ptrace(2); the numbers below four are those that peek, whose value is the result. */
long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	long pid, address, value, result;
	void *data;

	va_start(rest, request);
	pid = va_arg(rest, pid_t);
	address = va_arg(rest, long);
	data = va_arg(rest, void *);
	va_end(rest);
	if (request > 0 && request < 4) {
		result = syscall(SYS_ptrace, request, pid, address, &value);
		if (result < 0)
			return result;
		errno = 0;
		return value;
	}
	result = syscall(SYS_ptrace, request, pid, address, data);
	if (result < 0 && errno == EFAULT && request == PTRACE_SETREGSET && address == NT_X86_XSTATE)
		return set_whole(pid, data);
	return result;
}
