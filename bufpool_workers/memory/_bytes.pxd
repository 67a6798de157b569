"""Bytes wiped, looked through and compared, as fast as the processor can.

Which way is taken is known when the module is loaded: AVX2 where processor and system have it,
plain C elsewhere, and everywhere with -DBUFPOOL_PORTABLE, by which tests reach that way too.
"""

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* not a plain memset: the compiler may not leave it out as a dead store */
    #ifdef __APPLE__
      #define bufpool_wipe_plain(p, n) memset_s((p), (n), 0, (n))
    #else
      #define bufpool_wipe_plain(p, n) explicit_bzero((p), (n))
    #endif

    static inline int bufpool_is_zero_plain(const char *p, size_t n) {
      uint64_t any = 0, word;
      for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        any |= word;
      }
      for (; n; n--)
        any |= (unsigned char)*p++;
      return any == 0;
    }

    #if defined(__x86_64__) && defined(__GNUC__) && !defined(BUFPOOL_PORTABLE)
      #include <immintrin.h>
      #define BUFPOOL_HAS_AVX2 __builtin_cpu_supports("avx2")
      #define BUFPOOL_AVX2 __attribute__((target("avx2"), noinline)) static
      #define BUFPOOL_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))

      /* at least 128 bytes; the last stores overlap those before them */
      BUFPOOL_AVX2 void bufpool_wipe_avx2(char *p, size_t n) {
        const __m256i zero = _mm256_setzero_si256();
        char *last = p + n - 128;
        for (;;) {
          _mm256_storeu_si256((__m256i *)p, zero);
          _mm256_storeu_si256((__m256i *)(p + 32), zero);
          _mm256_storeu_si256((__m256i *)(p + 64), zero);
          _mm256_storeu_si256((__m256i *)(p + 96), zero);
          __asm__ __volatile__("" : "+r"(p) : : "memory");
          if (p == last)
            break;
          p = last - p > 128 ? p + 128 : last;
        }
        _mm256_zeroupper();
      }

      /* at least 32 bytes; what is not zero stays in no register */
      BUFPOOL_AVX2 int bufpool_is_zero_avx2(const char *p, size_t n) {
        const char *end = p + n;
        __m256i any = BUFPOOL_LOAD(end - 32), other = any;
        for (; end - p >= 128; p += 128) {
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 32));
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p + 64));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 96));
        }
        for (; end - p > 32; p += 32)
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p));
        any = _mm256_or_si256(any, other);
        if (_mm256_testz_si256(any, any)) {
          _mm256_zeroupper();
          return 1;
        }
        _mm256_zeroall();
        return 0;
      }
    #else
      #define BUFPOOL_HAS_AVX2 0
      #define bufpool_wipe_avx2 bufpool_wipe_plain
      #define bufpool_is_zero_avx2 bufpool_is_zero_plain
    #endif

    /* glibc's memset is `rep stosb` from 2 KiB on, which is slower than stores of 32 bytes while
       the memory is in the first cache; what is larger is not */
    #define BUFPOOL_IN_FIRST_CACHE(n) ((n) >= 512 && (n) <= 32 * 1024)

    static inline void bufpool_wipe(void *p, size_t n) {
      if (BUFPOOL_IN_FIRST_CACHE(n) && BUFPOOL_HAS_AVX2)
        bufpool_wipe_avx2((char *)p, n);
      else
        bufpool_wipe_plain(p, n);
    }

    static inline int bufpool_is_zero(const void *p, size_t n) {
      return n >= 32 && BUFPOOL_HAS_AVX2 ? bufpool_is_zero_avx2((const char *)p, n)
                                         : bufpool_is_zero_plain((const char *)p, n);
    }

    /* zeros afterwards, whatever was there; reading is quicker than writing in the first cache */
    static inline void bufpool_ensure_zero(void *p, size_t n) {
      if (!BUFPOOL_IN_FIRST_CACHE(n) || !BUFPOOL_HAS_AVX2 || !bufpool_is_zero(p, n))
        bufpool_wipe(p, n);
    }

    /* in a time that tells nothing of the bytes; the compiler knows no value of `differing` */
    static inline int bufpool_equal(const void *left, const void *right, size_t n) {
      const char *a = (const char *)left, *b = (const char *)right;
      uint64_t differing = 0, x, y;
      for (; n >= 8; a += 8, b += 8, n -= 8) {
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        differing |= x ^ y;
        __asm__ __volatile__("" : "+r"(differing));
      }
      for (; n; n--) {
        differing |= (unsigned char)(*a++ ^ *b++);
        __asm__ __volatile__("" : "+r"(differing));
      }
      return differing == 0;
    }
    """
    void wipe "bufpool_wipe"(void* memory, size_t length) noexcept nogil
    bint is_zero "bufpool_is_zero"(const void* memory, size_t length) noexcept nogil
    void ensure_zero "bufpool_ensure_zero"(void* memory, size_t length) noexcept nogil
    bint equal "bufpool_equal"(const void* left, const void* right, size_t length) noexcept nogil
