// A PKCS#11 module that forwards to another one and fails as a test tells it to. Package faulty compiles it and says what it can do.
//
// It finds the test by a socket beside its own file, and gets the board from it: see board.h.

#include "faulty.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct list { unsigned char major, minor; void *function[functions]; };

struct board *board;
struct process *self;
void *real[functions];

static struct list mine;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int loaded;

// connect_board gets the board from the test, and says which process on it this is. The socket stays open: the test sees by it
// that the process lives.
static int connect_board(void) {
	Dl_info here;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (dladdr((void *)connect_board, &here) == 0) {
		return 0;
	}
	const char *slash = strrchr(here.dli_fname, '/');
	size_t folder = slash == NULL ? 0 : (size_t)(slash - here.dli_fname) + 1;
	if (folder + sizeof "control" > sizeof address.sun_path) {
		return 0;
	}
	memcpy(address.sun_path, here.dli_fname, folder);
	memcpy(address.sun_path + folder, "control", sizeof "control");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		return 0;
	}
	uint64_t index;
	union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control;
	struct iovec data = { &index, sizeof index };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room };
	if (recvmsg(fd, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC) != sizeof index || index >= processes) {
		return 0;
	}
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header == NULL || header->cmsg_type != SCM_RIGHTS) {
		return 0;
	}
	int memory;
	memcpy(&memory, CMSG_DATA(header), sizeof memory);
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	close(memory);
	if (board == MAP_FAILED) {
		return 0;
	}
	self = &board->process[index];
	return 1;
}

static ck_ulong get_function_list(struct list **out);

static void load(void) {
	if (!connect_board()) {
		return;
	}
	void *module = dlopen(board->real, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		return;
	}
	ck_ulong (*get)(struct list **) = (ck_ulong (*)(struct list **))dlsym(module, "C_GetFunctionList");
	struct list *theirs;
	if (get == NULL || get(&theirs) != 0) {
		return;
	}
	mine.major = theirs->major;
	mine.minor = theirs->minor;
	memcpy(real, theirs->function, sizeof real);
	memcpy(mine.function, real, sizeof real);
	wrap(mine.function);
	mine.function[c_get_function_list] = (void *)get_function_list;
	loaded = 1;
}

static ck_ulong get_function_list(struct list **out) {
	pthread_once(&once, load);
	if (!loaded) {
		return ckr_general_error;
	}
	*out = &mine;
	return ckr_ok;
}

__attribute__((visibility("default"))) ck_ulong C_GetFunctionList(struct list **out) { return get_function_list(out); }
