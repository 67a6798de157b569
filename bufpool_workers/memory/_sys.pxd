"""The libc calls that the memory core uses, all of them callable without the GIL."""

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset) noexcept
    int munmap(void* address, size_t length) noexcept
    int madvise(void* address, size_t length, int advice) noexcept
    void* MAP_FAILED
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS

cdef extern from "<unistd.h>" nogil:
    int getentropy(void* buffer, size_t length) noexcept

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept,
                       void (*child)() noexcept) noexcept

cdef extern from *:
    """
    #include <string.h>
    #include <sys/mman.h>
    #ifdef __APPLE__
      #include <sys/random.h>
      #define bufpool_wipe(p, n) memset_s((p), (n), 0, (n))
    #else
      #define bufpool_wipe(p, n) explicit_bzero((p), (n))
    #endif
    #ifndef MADV_HUGEPAGE
      #define MADV_HUGEPAGE -1
    #endif
    #ifndef MADV_POPULATE_WRITE      /* Linux 5.14 */
      #ifdef __linux__
        #define MADV_POPULATE_WRITE 23
      #else
        #define MADV_POPULATE_WRITE -1
      #endif
    #endif
    """
    int MADV_HUGEPAGE, MADV_POPULATE_WRITE
    # not a plain memset: the compiler may not leave it out as a dead store
    void wipe "bufpool_wipe"(void* memory, size_t length) noexcept nogil
