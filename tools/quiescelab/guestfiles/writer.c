/* Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

/*
 * Appends numbered lines to a file and prints each number once it is on the
 * disk, so that a watcher of the console sees a frozen filesystem.
 *
 * usage: writer FILE INTERVAL_FILE
 * INTERVAL_FILE, if there, holds the pause between two lines in milliseconds.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_INTERVAL_MS = 50, LONGEST_LINE = 32 };

static void die(const char *what)
{
	perror(what);
	sleep(5); /* init starts it again at once */
	exit(1);
}

/* The number to go on after; cuts off a line that a crash left half done. */
static unsigned long long resume(int fd)
{
	char tail[2 * LONGEST_LINE + 1];
	off_t end = lseek(fd, 0, SEEK_END);
	off_t from = end > 2 * LONGEST_LINE ? end - 2 * LONGEST_LINE : 0;
	ssize_t got = pread(fd, tail, sizeof(tail) - 1, from);
	char *newline, *line;

	if (end < 0 || got < 0)
		die("read");
	tail[got] = '\0';
	newline = strrchr(tail, '\n');
	if (ftruncate(fd, newline ? from + (newline + 1 - tail) : 0) < 0)
		die("truncate");
	if (!newline)
		return 0;
	*newline = '\0';
	line = strrchr(tail, '\n');
	return strtoull(line ? line + 1 : tail, NULL, 10);
}

static long interval_ms(const char *path)
{
	long value = DEFAULT_INTERVAL_MS;
	FILE *file = fopen(path, "r");

	if (!file)
		return value;
	if (fscanf(file, "%ld", &value) != 1 || value < 0)
		value = DEFAULT_INTERVAL_MS;
	fclose(file);
	return value;
}

static void pause_ms(long ms)
{
	struct timespec span = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&span, NULL);
}

int main(int argc, char **argv)
{
	unsigned long long number;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: writer FILE INTERVAL_FILE\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CREAT | O_APPEND, 0644);
	if (fd < 0)
		die(argv[1]);
	for (number = resume(fd) + 1;; number++) {
		if (dprintf(fd, "%llu\n", number) < 0 || fsync(fd) < 0)
			die(argv[1]);
		printf("quiesce-writer %llu\n", number);
		fflush(stdout);
		pause_ms(interval_ms(argv[2]));
	}
}
