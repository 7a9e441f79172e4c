// The cheapest SMTP server that still speaks SMTP: it takes every mail to the dot, throws it away and answers 250.
//
//     null PORT [THREADS]        gcc -O2 -pthread -o null null.c
//
// It is the bound of what a client can push into anything on this machine: a socket, epoll, one read and one write an exchange, nothing
// else. It prints its address when it listens; port 0 takes a free one. With threads each has its own listener on the port (SO_REUSEPORT).
// It keeps no mail, checks no address, and closes the connection of a client that does not read its replies.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_OCTETS = 256 << 10, LINE_OCTETS = 2048, REPLY_OCTETS = 64 << 10, EVENTS = 256, CARRIED_OCTETS = 4 };

// A client. What is left of a command line waits in `line`; of mail data the last octets, since the end of data may be cut anywhere.
struct session {
    int socket;
    bool in_data;
    size_t kept;
    char line[LINE_OCTETS];
};

// What a thread has of its own.
struct worker {
    int listener, events;
    size_t replied;
    char replies[REPLY_OCTETS];
    // In front of what is read is room for what was carried.
    char octets[CARRIED_OCTETS + READ_OCTETS];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static bool reply(struct worker *worker, const char *text) {
    size_t length = strlen(text);
    if (worker->replied + length > REPLY_OCTETS) return false;
    memcpy(worker->replies + worker->replied, text, length);
    worker->replied += length;
    return true;
}

static bool is_verb(const char *line, const char *verb) { return strncasecmp(line, verb, 4) == 0; }

// One command; false ends the session.
static bool command(struct worker *worker, struct session *session, const char *line) {
    if (is_verb(line, "EHLO")) return reply(worker, "250-null\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250 8BITMIME\r\n");
    if (is_verb(line, "DATA")) {
        // RFC 5321 4.1.1.4: the line end behind DATA is that in front of a first line that is the dot.
        memcpy(session->line, "\r\n", 2);
        session->kept = 2;
        session->in_data = true;
        return reply(worker, "354 go on\r\n");
    }
    if (is_verb(line, "QUIT")) {
        reply(worker, "221 bye\r\n");
        return false;
    }
    return reply(worker, "250 ok\r\n");
}

// Mail data up to the end of data or of what came; what is behind the end of data. The dot is what a mail has fewest of.
static char *data(struct worker *worker, struct session *session, char *from, char *end) {
    char *begin = from - session->kept;
    memmove(begin, session->line, session->kept);
    for (char *dot = begin; (dot = memchr(dot, '.', end - dot)); dot++) {
        if (dot - begin < 2 || end - dot < 3 || memcmp(dot - 2, "\r\n.\r\n", 5)) continue;
        session->in_data = false;
        session->kept = 0;
        reply(worker, "250 ok\r\n");
        return dot + 3;
    }
    session->kept = end - begin < CARRIED_OCTETS ? end - begin : CARRIED_OCTETS;
    memcpy(session->line, end - session->kept, session->kept);
    return end;
}

// All that a read brought; false ends the session.
static bool feed(struct worker *worker, struct session *session, size_t count) {
    char *at = worker->octets + CARRIED_OCTETS, *end = at + count;
    worker->replied = 0;
    bool goes_on = true;
    while (goes_on && at < end) {
        if (session->in_data) {
            // Behind a command its octets are in front of `at`, and are not needed any more.
            at = data(worker, session, at, end);
            continue;
        }
        char *line_end = memchr(at, '\n', end - at);
        size_t length = (line_end ? line_end + 1 : end) - at;
        if (session->kept + length >= LINE_OCTETS) return false;
        memcpy(session->line + session->kept, at, length);
        session->kept += length;
        at += length;
        if (!line_end) break;
        session->line[session->kept] = 0;
        session->kept = 0;
        goes_on = command(worker, session, session->line);
    }
    size_t replied = worker->replied;
    return (!replied || write(session->socket, worker->replies, replied) == (ssize_t)replied) && goes_on;
}

static void take(struct worker *worker) {
    int socket, on = 1;
    while ((socket = accept4(worker->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = calloc(1, sizeof *session);
        if (!session) fail("calloc");
        session->socket = socket;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
        static const char greeting[] = "220 null ESMTP\r\n";
        if (epoll_ctl(worker->events, EPOLL_CTL_ADD, socket, &event) || write(socket, greeting, sizeof greeting - 1) < 0) {
            close(socket);
            free(session);
        }
    }
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.ptr = NULL};
    worker->events = epoll_create1(EPOLL_CLOEXEC);
    if (worker->events < 0 || epoll_ctl(worker->events, EPOLL_CTL_ADD, worker->listener, &event)) fail("epoll");
    for (;;) {
        int count = epoll_wait(worker->events, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct session *session = events[i].data.ptr;
            if (!session) {
                take(worker);
                continue;
            }
            ssize_t octets = read(session->socket, worker->octets + CARRIED_OCTETS, READ_OCTETS);
            if (octets < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (octets > 0 && feed(worker, session, octets)) continue;
            close(session->socket);
            free(session);
        }
    }
    return NULL;
}

// A listener on a port of loopback; where that is 0, on a free one, which is then that of the others.
static struct worker *worker_on(struct sockaddr_in *address) {
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) fail("calloc");
    socklen_t length = sizeof *address;
    int on = 1;
    worker->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(worker->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(worker->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(worker->listener, (struct sockaddr *)address, length) || listen(worker->listener, 4096)) fail("listen");
    getsockname(worker->listener, (struct sockaddr *)address, &length);
    return worker;
}

int main(int count, char **words) {
    if (count < 2 || count > 3) {
        fprintf(stderr, "usage: null PORT [THREADS]\n");
        return 2;
    }
    int threads = count == 3 ? atoi(words[2]) : 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct worker *first = worker_on(&address);
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, worker_on(&address))) fail("pthread_create");
    }
    printf("127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    work(first);
}
