"""Index documents batch by batch, and log when a batch is done.

A slow document holds up neither the other documents of its batch nor the batches after it: they are indexed meanwhile.
Yet the log is right: `BatchDone` comes out after everything that was put before it.
"""

from __future__ import annotations

from threading import Thread

from ordered_executor.parallel_queue import ParallelQueue, ShutDown

BATCHES = [["to be or not to be", "that is the question"], ["brevity is the soul of wit"], []]


class BatchDone(int):
    """Goes through the queue behind a batch: so many documents it had."""


def words_in(document: str) -> set[str]:
    """The task: runs in a worker process."""
    return set(document.split())


def producer(queue: ParallelQueue) -> None:
    """Put a task for each document and a mark behind each batch."""
    for batch in BATCHES:
        for document in batch:
            queue.put(words_in, document)
        queue.put(BatchDone(len(batch)))
    queue.stop()


def consumer(queue: ParallelQueue) -> None:
    """Take what comes out, in the order in which it was put in, until the queue is over."""
    index: set[str] = set()
    while True:
        try:
            words_or_mark = queue.get()
        except ShutDown:
            return
        if isinstance(words_or_mark, BatchDone):
            print(f"{words_or_mark:d} documents done, {len(index)} words known")
        else:
            index |= words_or_mark


def main() -> None:
    """Let a producer and a consumer work at the same time, and wait for both."""
    queue = ParallelQueue()
    threads = [Thread(target=producer, args=(queue,)), Thread(target=consumer, args=(queue,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.join()


if __name__ == "__main__":
    main()
