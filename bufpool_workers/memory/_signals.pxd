"""Signals that wait while a report is written, whichever of the process's threads gets them."""

cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <string.h>
    #include <unistd.h>
    #ifdef __linux__
      #include <sys/syscall.h>
    #endif

    /* All of it is used with the GIL. A mask would not do: it is of one thread, and the kernel hands
       a process's signal to any other, from which Python's main thread takes it. */
    static struct sigaction bufpool_handlers[NSIG];
    static char bufpool_is_held[NSIG];
    static volatile sig_atomic_t bufpool_has_come[NSIG];
    static int bufpool_holders;       /* greenlets of the main thread may be several, in any order */
    static pthread_t bufpool_holder;

    static void bufpool_note_signal(int number) {
      bufpool_has_come[number] = 1;
    }

    /* Those that end a program or tell of a fault in it do not wait. */
    static inline int bufpool_may_wait(int number) {
      switch (number) {
        case SIGINT: case SIGTERM: case SIGHUP: case SIGQUIT: case SIGSEGV: case SIGBUS:
        case SIGFPE: case SIGILL: case SIGTRAP: case SIGABRT: case SIGSYS:
          return 0;
      }
      return 1;
    }

    static inline void bufpool_put_handlers_back(void) {
      struct sigaction now;
      for (int number = 1; number < NSIG; number++)
        if (bufpool_is_held[number]) {
          bufpool_is_held[number] = 0;
          if (!sigaction(number, NULL, &now) && now.sa_handler == bufpool_note_signal)
            sigaction(number, &bufpool_handlers[number], NULL);
        }
    }

    /* Another thread forked: the one that would put them back is not in the child. */
    static void bufpool_put_back_in_child(void) {
      if (bufpool_holders && !pthread_equal(pthread_self(), bufpool_holder)) {
        bufpool_holders = 0;
        bufpool_put_handlers_back();
        memset((void *)bufpool_has_come, 0, sizeof bufpool_has_come);     /* the parent's */
      }
    }

    /* Return 1 if signals wait now until the release, 0 in a thread that runs no handlers. */
    static inline int bufpool_hold_signals(void) {
    #ifdef __linux__
      if (syscall(SYS_gettid) != getpid())
        return 0;
    #endif
      if (bufpool_holders++)
        return 1;
      bufpool_holder = pthread_self();
      for (int number = 1; number < NSIG; number++) {
        struct sigaction *handler = &bufpool_handlers[number], note;
        if (!bufpool_may_wait(number) || sigaction(number, NULL, handler)
            || handler->sa_flags & SA_SIGINFO       /* none of Python's, and it wants to know more */
            || handler->sa_handler == SIG_DFL || handler->sa_handler == SIG_IGN)
          continue;
        note = *handler;
        note.sa_handler = bufpool_note_signal;
        bufpool_is_held[number] = !sigaction(number, &note, NULL);
      }
      return 1;
    }

    static inline void bufpool_release_signals(int is_held) {
      if (!is_held || --bufpool_holders)
        return;
      bufpool_put_handlers_back();
      for (int number = 1; number < NSIG; number++)
        if (bufpool_has_come[number]) {
          bufpool_has_come[number] = 0;
          kill(getpid(), number);
        }
    }
    """
    bint hold_signals "bufpool_hold_signals"() noexcept
    void release_signals "bufpool_release_signals"(bint is_held) noexcept
    void put_back_in_child "bufpool_put_back_in_child"() noexcept nogil
