"""The libc calls that the memory core uses, all of them callable without the GIL."""

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd,
               long offset) noexcept
    int munmap(void* address, size_t length) noexcept
    int mprotect(void* address, size_t length, int protection) noexcept
    int madvise(void* address, size_t length, int advice) noexcept
    int mlock(void* address, size_t length) noexcept
    void* MAP_FAILED
    int PROT_READ, PROT_WRITE, PROT_NONE, MAP_PRIVATE, MAP_SHARED, MAP_ANONYMOUS, MAP_FIXED

cdef extern from "<fcntl.h>" nogil:
    int O_CLOEXEC

cdef extern from "<stdlib.h>" nogil:
    int atexit(void (*function)() noexcept) noexcept

cdef extern from "<unistd.h>" nogil:
    int getentropy(void* buffer, size_t length) noexcept

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept,
                       void (*child)() noexcept) noexcept

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/mman.h>
    #include <unistd.h>
    #ifdef __APPLE__
      #include <sys/random.h>
    #else
      #include <sys/syscall.h>
    #endif
    #ifndef MADV_HUGEPAGE
      #define MADV_HUGEPAGE -1
    #endif
    #ifndef MADV_DONTFORK
      #define MADV_DONTFORK -1
    #endif
    #ifndef MADV_POPULATE_WRITE      /* Linux 5.14 */
      #ifdef __linux__
        #define MADV_POPULATE_WRITE 23
      #else
        #define MADV_POPULATE_WRITE -1
      #endif
    #endif

    /* Linux 5.14; glibc has no wrapper. The number is the same on all but alpha. */
    static inline int bufpool_memfd_secret(unsigned int flags) {
    #if defined(__linux__) && !defined(__alpha__)
      return (int)syscall(447, flags);
    #else
      (void)flags;
      errno = ENOSYS;
      return -1;
    #endif
    }

    /* out of core dumps, and zeros in the child of a fork */
    static inline int bufpool_exclude_from_dump_and_fork(void *memory, size_t length) {
    #ifdef __linux__
      return madvise(memory, length, MADV_DONTDUMP) | madvise(memory, length, MADV_WIPEONFORK);
    #else
      (void)memory, (void)length;
      return 0;                      /* the fork handler puts zeros there */
    #endif
    }

    /* in the child of a fork: zeros, either in a hole or over what was inherited */
    static inline int bufpool_remap_zeros(void *memory, size_t length, int hole) {
      int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    #ifdef MAP_FIXED_NOREPLACE         /* Linux 4.17 */
      if (hole)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    #else
      (void)hole;
    #endif
      return mmap(memory, length, PROT_READ | PROT_WRITE, flags, -1, 0) == memory ? 0 : -1;
    }
    """
    int MADV_HUGEPAGE, MADV_POPULATE_WRITE, MADV_DONTFORK
    int memfd_secret "bufpool_memfd_secret"(unsigned int flags) noexcept nogil
    int exclude_from_dump_and_fork "bufpool_exclude_from_dump_and_fork"(
        void* memory, size_t length) noexcept nogil
    int remap_zeros "bufpool_remap_zeros"(void* memory, size_t length, bint hole) noexcept nogil
