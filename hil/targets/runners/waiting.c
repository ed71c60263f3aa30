/* Makes a program wait, loaded, before its main function, and fork whenever it is asked to: for LD_PRELOAD.
 *
 * Loading QEMU (50 libraries, 130,000 relocations) takes longer than what it then does to boot a network. Here it is
 * loaded once. What is forked off has run its libraries' constructors, as the loader does before it starts a program,
 * but none of its own, and no line of its main function: its state is that of a program that was just started.
 *
 * Standard input is a socket of packets. A packet is a request, with the descriptors that the run gets (SCM_RIGHTS); its
 * text is words, each ended by a zero byte: the number that the run knows each descriptor by, an empty word, the working
 * directory, and what comes behind our own command line (of a script, that is its interpreter's). The answer is the
 * run's process number, or 0 when there is none. Its parent is ours: whoever asks waits for it as for any child, and it
 * ends with the thread that started us, as we do. Where standard input is something else, the program runs as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONTROL 0
#define MOST_BYTES 65536u /* of a request */
#define MOST_DESCRIPTORS 8u
#define NAME "waiting" /* in lists of processes, until it is forked */

typedef int main_function(int, char **, char **);
typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

typedef struct {
    char text[MOST_BYTES + 1u];
    size_t size;
    int descriptors[MOST_DESCRIPTORS];
    size_t received;
} request_t;

/* Where the C library keeps this thread's number rather than ask for it; it has told the kernel. */
static pid_t *thread_number(void)
{
    pid_t *place = NULL;
    const bool is_known = prctl(PR_GET_TID_ADDRESS, &place, 0, 0, 0) == 0 && place != NULL && *place == gettid();
    return is_known ? place : NULL;
}

/* What fork does in a process of one thread, but the new one is our parent's child. */
static pid_t fork_brother(pid_t *number)
{
    const unsigned long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
#if defined(__x86_64__)
    return (pid_t)syscall(SYS_clone, flags, NULL, NULL, number, NULL);
#elif defined(__aarch64__)
    return (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, number);
#else
#error "the order of clone's arguments is not known for this machine"
#endif
}

/* false when nobody is left who could ask */
static bool receive(request_t *request)
{
    union {
        struct cmsghdr header; /* aligns it */
        char bytes[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec text = {request->text, MOST_BYTES};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t size;
    do {
        size = recvmsg(CONTROL, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size <= 0) {
        return false;
    }
    request->size = (size_t)size;
    request->text[size] = '\0';
    request->received = 0;
    const struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (rights != NULL && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
        request->received = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(request->descriptors, CMSG_DATA(rights), request->received * sizeof(int));
    }
    return (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
}

static char **words_of(request_t *request, size_t *count)
{
    char **words = calloc(request->size + 1u, sizeof *words);
    *count = 0;
    if (words != NULL) {
        for (char *next = request->text; next < request->text + request->size; next += strlen(next) + 1u) {
            words[(*count)++] = next;
        }
    }
    return words;
}

/* Our own command line, `more` words, a null pointer, then the environment: as a program finds them when it starts. */
static char **command_line(int *argc, char **argv, char **more, size_t count)
{
    size_t variables = 0;
    while (environ[variables] != NULL) {
        variables++;
    }
    const size_t own = (size_t)*argc;
    char **words = calloc(own + count + variables + 2u, sizeof *words);
    if (words != NULL) {
        memcpy(words, argv, own * sizeof *words);
        memcpy(words + own, more, count * sizeof *words);
        memcpy(words + own + count + 1u, environ, variables * sizeof *words);
        *argc = (int)(own + count);
    }
    return words;
}

/* The descriptors under the numbers that the run knows them by; `numbers` are as many. */
static bool placed(request_t *request, char **numbers)
{
    int above = 0;
    for (size_t i = 0; i < request->received; i++) {
        const int number = atoi(numbers[i]);
        above = number >= above ? number + 1 : above;
    }
    for (size_t i = 0; i < request->received; i++) { /* out of each other's way */
        const int moved = fcntl(request->descriptors[i], F_DUPFD, above);
        close(request->descriptors[i]);
        request->descriptors[i] = moved;
    }
    bool is_done = true;
    for (size_t i = 0; i < request->received; i++) {
        is_done = is_done && dup2(request->descriptors[i], atoi(numbers[i])) >= 0;
        close(request->descriptors[i]);
    }
    return is_done;
}

/* The command line of the run, in the run: nothing of ours is left in it. Does not return when that cannot be. */
static char **become(request_t *request, pid_t parent, const char *name, int *argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unsetenv("LD_PRELOAD");
    size_t count;
    char **words = words_of(request, &count);
    const size_t first = request->received + 2u;
    if (getppid() != parent || words == NULL || count < first || words[first - 2u][0] != '\0') {
        _exit(127);
    }
    char **line = command_line(argc, argv, words + first, count - first);
    prctl(PR_SET_NAME, name);
    if (line == NULL || setsid() < 0 || chdir(words[first - 1u]) != 0 || !placed(request, words)) {
        _exit(127);
    }
    return line;
}

/* Forks for each request. Returns the command line, in each run. */
static char **wait_for_runs(int *argc, char **argv)
{
    static request_t request;
    pid_t *number = thread_number();
    const pid_t parent = getppid();
    char name[16];
    prctl(PR_GET_NAME, name);
    prctl(PR_SET_NAME, NAME);
    while (receive(&request)) {
        const pid_t run = number == NULL ? 0 : fork_brother(number);
        if (run == 0 && number != NULL) {
            return become(&request, parent, name, argc, argv);
        }
        for (size_t i = 0; i < request.received; i++) {
            close(request.descriptors[i]);
        }
        char answer[16];
        const int size = snprintf(answer, sizeof answer, "%d", run > 0 ? (int)run : 0);
        if (send(CONTROL, answer, (size_t)size, MSG_NOSIGNAL) != size) {
            break;
        }
    }
    _exit(0);
}

static bool is_asked(void)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(CONTROL, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/* The C library's, which every program calls once it is loaded, and which calls its constructors and main. */
int __libc_start_main(
    main_function *run, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*rtld_fini)(void), void *end);

int __libc_start_main(
    main_function *run, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*rtld_fini)(void), void *end)
{
    start_function *start;
    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    if (is_asked()) {
        argv = wait_for_runs(&argc, argv);
    }
    return start(run, argc, argv, init, fini, rtld_fini, end);
}
