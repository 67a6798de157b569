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
      #define BUFPOOL_LOAD_HALF(p) _mm_loadu_si128((const __m128i *)(p))
      #define BUFPOOL_STORE(p, value) _mm256_storeu_si256((__m256i *)(p), value)

      #define BUFPOOL_ALIGN(p) ((uintptr_t)(p) & ~(uintptr_t)63)

      /* Whole cache lines, since a store across two of them takes twice as long. The first and
         last ones may overlap them: at least 64 bytes. */
      BUFPOOL_AVX2 void bufpool_wipe_avx2(char *p, size_t n) {
        const __m256i zero = _mm256_setzero_si256();
        char *end = p + n, *last = (char *)BUFPOOL_ALIGN(end);
        BUFPOOL_STORE(p, zero);
        BUFPOOL_STORE(p + 32, zero);
        BUFPOOL_STORE(end - 64, zero);
        BUFPOOL_STORE(end - 32, zero);
        for (p = (char *)BUFPOOL_ALIGN(p + 63); p < last; p += 64) {
          BUFPOOL_STORE(p, zero);
          BUFPOOL_STORE(p + 32, zero);
          __asm__ __volatile__("" : "+r"(p) : : "memory");
        }
        _mm256_zeroupper();
      }

      /* the same way; what is not zero stays in no register */
      BUFPOOL_AVX2 int bufpool_is_zero_avx2(const char *p, size_t n) {
        const char *end = p + n, *last = (const char *)BUFPOOL_ALIGN(end);
        __m256i any = BUFPOOL_LOAD(p), other = BUFPOOL_LOAD(end - 32);
        any = _mm256_or_si256(any, BUFPOOL_LOAD(p + 32));
        other = _mm256_or_si256(other, BUFPOOL_LOAD(end - 64));
        p = (const char *)BUFPOOL_ALIGN(p + 63);
        for (; last - p >= 256; p += 256) {
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 32));
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p + 64));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 96));
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p + 128));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 160));
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p + 192));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 224));
        }
        for (; p < last; p += 64) {
          any = _mm256_or_si256(any, BUFPOOL_LOAD(p));
          other = _mm256_or_si256(other, BUFPOOL_LOAD(p + 32));
        }
        any = _mm256_or_si256(any, other);
        if (_mm256_testz_si256(any, any)) {
          _mm256_zeroupper();
          return 1;
        }
        _mm256_zeroall();
        return 0;
      }

      /* 32 to 64 bytes, which lie behind the buffers that fill their slots */
      static inline int bufpool_is_zero_few(const char *p, size_t n) {
        __m128i any = _mm_or_si128(
            _mm_or_si128(BUFPOOL_LOAD_HALF(p), BUFPOOL_LOAD_HALF(p + 16)),
            _mm_or_si128(BUFPOOL_LOAD_HALF(p + n - 32), BUFPOOL_LOAD_HALF(p + n - 16)));
        return _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) == 0xffff;
      }
    #else
      #define BUFPOOL_HAS_AVX2 0
      #define bufpool_is_zero_few bufpool_is_zero_plain
      #define bufpool_wipe_avx2 bufpool_wipe_plain
      #define bufpool_is_zero_avx2 bufpool_is_zero_plain
    #endif

    /* beyond the first cache the system's own is as quick, or quicker */
    static inline int bufpool_takes_avx2(size_t n) {
      return n >= 64 && n <= 32 * 1024 + 128 && BUFPOOL_HAS_AVX2;
    }

    static inline void bufpool_wipe(void *p, size_t n) {
      if (bufpool_takes_avx2(n))
        bufpool_wipe_avx2((char *)p, n);
      else
        bufpool_wipe_plain(p, n);
    }

    static inline int bufpool_is_zero(const void *p, size_t n) {
      if (n >= 32 && n <= 64)
        return bufpool_is_zero_few((const char *)p, n);
      return n > 64 && BUFPOOL_HAS_AVX2 ? bufpool_is_zero_avx2((const char *)p, n)
                                        : bufpool_is_zero_plain((const char *)p, n);
    }

    /* zeros afterwards, whatever was there; reading takes half as long as writing */
    static inline void bufpool_ensure_zero(void *p, size_t n) {
      if (!bufpool_takes_avx2(n) || !bufpool_is_zero_avx2((const char *)p, n))
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
