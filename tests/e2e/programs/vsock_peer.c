/* The guest's part in the tests of virtual sockets, linked statically: one program for every guest.
 *
 *   vsock_peer echo PORT             serves: sends back what comes, closes when the peer has closed its half
 *   vsock_peer churn PORT COUNT      opens COUNT streams to the host one after the other, a byte to and fro on each
 *   vsock_peer parallel PORT N BYTES N streams at once; on each BYTES there and back, compared
 *   vsock_peer pipe PORT             standard input to the host, half-close, what comes back to standard output
 *   vsock_peer hold PORT             connects, says "held", waits for the end of the stream, says how it ended
 *   vsock_peer push PORT BYTES       sends BYTES of zeroes and waits for the peer's close (throughput)
 *   vsock_peer pull PORT             reads until the end, prints the number of bytes
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_STREAMS = 256, BLOCK = 65536 };

static void die(const char* what) {
  fprintf(stderr, "vsock_peer: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_vm address(unsigned cid, unsigned port) {
  struct sockaddr_vm a;
  memset(&a, 0, sizeof(a));
  a.svm_family = AF_VSOCK;
  a.svm_cid = cid;
  a.svm_port = port;
  return a;
}

static int dial(unsigned port) {
  struct sockaddr_vm a = address(VMADDR_CID_HOST, port);
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  /* The usual two seconds are less than a loaded host may take. */
  struct timeval patience = {.tv_sec = 30};
  if (fd < 0 || setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience)) != 0) die("socket");
  if (connect(fd, (struct sockaddr*)&a, sizeof(a)) != 0) die("connect");
  return fd;
}

static unsigned char pattern(unsigned stream, size_t offset) {
  return (unsigned char)((offset * 131 + stream * 7919 + (offset >> 11)) & 0xff);
}

static void echo(unsigned port) {
  struct sockaddr_vm a = address(VMADDR_CID_ANY, port);
  static struct pollfd fds[MAX_STREAMS];
  static char block[BLOCK];
  nfds_t count = 1;
  int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (struct sockaddr*)&a, sizeof(a)) != 0 || listen(listener, 128) != 0)
    die("listen");
  fds[0].fd = listener;
  fds[0].events = POLLIN;
  puts("serving");
  fflush(stdout);
  for (;;) {
    if (poll(fds, count, -1) < 0) die("poll");
    if ((fds[0].revents & POLLIN) && count < MAX_STREAMS) {
      int fd = accept(listener, NULL, NULL);
      if (fd >= 0) {
        fds[count].fd = fd;
        fds[count].events = POLLIN;
        fds[count++].revents = 0;
      }
    }
    for (nfds_t i = 1; i < count; ++i) {
      if (!fds[i].revents) continue;
      ssize_t got = read(fds[i].fd, block, sizeof(block)), sent = 0;
      while (sent < got) {
        ssize_t n = write(fds[i].fd, block + sent, (size_t)(got - sent));
        if (n <= 0) break;
        sent += n;
      }
      if (got <= 0 || sent < got) {
        close(fds[i].fd);
        fds[i--] = fds[--count];
      }
    }
  }
}

/* Several processes, so that one works while another waits. */
static void churn(unsigned port, int count) {
  enum { WORKERS = 10 };
  int worker = 0, failed = 0;
  while (worker < WORKERS - 1 && count >= WORKERS && fork() != 0) ++worker;
  if (count < WORKERS) worker = WORKERS - 1;
  int step = count < WORKERS ? 1 : WORKERS;
  for (int i = count < WORKERS ? 0 : worker; i < count; i += step) {
    char byte = (char)i, back = (char)~i;
    int fd = dial(port);
    if (write(fd, &byte, 1) != 1 || read(fd, &back, 1) != 1) die("one byte");
    if (byte != back) {
      fprintf(stderr, "stream %d: %d came back as %d\n", i, byte, back);
      exit(1);
    }
    close(fd);
  }
  if (worker < WORKERS - 1) exit(0);
  for (int status; wait(&status) > 0;) failed |= status;
  if (failed) exit(1);
  printf("%d streams\n", count);
}

static void parallel(unsigned port, unsigned streams, size_t bytes) {
  static struct pollfd fds[MAX_STREAMS];
  static size_t sent[MAX_STREAMS], got[MAX_STREAMS];
  static unsigned char block[BLOCK];
  unsigned left = streams;
  for (unsigned i = 0; i < streams; ++i) {
    fds[i].fd = dial(port);
    fds[i].events = POLLIN | POLLOUT;
  }
  while (left > 0) {
    if (poll(fds, streams, 60000) <= 0) die("poll");
    for (unsigned i = 0; i < streams; ++i) {
      if (fds[i].fd >= 0 && (fds[i].revents & POLLOUT) && sent[i] < bytes) {
        size_t most = bytes - sent[i] < 8192 ? bytes - sent[i] : 8192;
        for (size_t j = 0; j < most; ++j) block[j] = pattern(i, sent[i] + j);
        ssize_t n = send(fds[i].fd, block, most, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) die("send");
        if (n > 0) sent[i] += (size_t)n;
        if (sent[i] == bytes) {
          fds[i].events = POLLIN;
          if (shutdown(fds[i].fd, SHUT_WR) != 0) die("shutdown");
        }
      }
      if (fds[i].fd >= 0 && (fds[i].revents & (POLLIN | POLLHUP | POLLERR))) {
        ssize_t n = recv(fds[i].fd, block, sizeof(block), MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) die("recv");
        for (ssize_t j = 0; j < n; ++j) {
          if (block[j] == pattern(i, got[i] + (size_t)j)) continue;
          fprintf(stderr, "stream %u: wrong at %zu\n", i, got[i] + (size_t)j);
          exit(1);
        }
        if (n > 0) got[i] += (size_t)n;
        if (n == 0) {
          if (got[i] != bytes) {
            fprintf(stderr, "stream %u ended after %zu\n", i, got[i]);
            exit(1);
          }
          close(fds[i].fd);
          fds[i].fd = -1;
          --left;
        }
      }
    }
  }
  printf("%u streams of %zu\n", streams, bytes);
}

static void copy(int from, int to) {
  static char block[BLOCK];
  ssize_t got;
  while ((got = read(from, block, sizeof(block))) > 0) {
    for (ssize_t sent = 0; sent < got;) {
      ssize_t n = write(to, block + sent, (size_t)(got - sent));
      if (n <= 0) die("write");
      sent += n;
    }
  }
  if (got < 0) die("read");
}

static void pipe_through(unsigned port) {
  int fd = dial(port);
  copy(0, fd);
  if (shutdown(fd, SHUT_WR) != 0) die("shutdown");
  copy(fd, 1);
}

static void hold(unsigned port) {
  char byte;
  int fd = dial(port);
  puts("held");
  fflush(stdout);
  ssize_t got = read(fd, &byte, 1);
  printf("ended: %s\n", got == 0 ? "closed" : got < 0 ? strerrorname_np(errno) : "data");
}

static void push(unsigned port, size_t bytes) {
  static char block[BLOCK];
  int fd = dial(port);
  for (size_t sent = 0; sent < bytes;) {
    ssize_t n = write(fd, block, bytes - sent < BLOCK ? bytes - sent : BLOCK);
    if (n <= 0) die("write");
    sent += (size_t)n;
  }
  if (shutdown(fd, SHUT_WR) != 0) die("shutdown");
  if (read(fd, block, 1) != 0) die("the peer's close");
}

static void pull(unsigned port) {
  static char block[BLOCK];
  int fd = dial(port);
  size_t bytes = 0;
  ssize_t got;
  while ((got = read(fd, block, sizeof(block))) > 0) bytes += (size_t)got;
  if (got < 0) die("read");
  printf("%zu bytes\n", bytes);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const char* what = argv[1];
  unsigned port = (unsigned)strtoul(argv[2], NULL, 0);
  unsigned long a = argc > 3 ? strtoul(argv[3], NULL, 0) : 0, b = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
  signal(SIGPIPE, SIG_IGN);
  if (!strcmp(what, "echo")) echo(port);
  else if (!strcmp(what, "churn")) churn(port, (int)a);
  else if (!strcmp(what, "parallel") && a <= MAX_STREAMS) parallel(port, (unsigned)a, b);
  else if (!strcmp(what, "pipe")) pipe_through(port);
  else if (!strcmp(what, "hold")) hold(port);
  else if (!strcmp(what, "push")) push(port, a);
  else if (!strcmp(what, "pull")) pull(port);
  else return 2;
  return 0;
}
