// TFLM's log goes to the serial line, one `e-[...]` a message. TFLM's own way there needs printf and its heap,
// and knows nothing of lines that are under way.
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <new>

#include "hil_log.h"
#include "tensorflow/lite/micro/debug_log.h"

extern "C" {
#include "hil_runtime.h"
}

namespace {

class Sink {
  public:
    virtual void put(char character) = 0;

    void text(const char *characters)
    {
        for (; *characters != '\0'; characters++) {
            put(*characters);
        }
    }

    void number(std::uint32_t value, std::uint32_t base)
    {
        char digits[10];
        int count = 0;
        do {
            digits[count++] = "0123456789abcdef"[value % base];
            value /= base;
        } while (value != 0u);
        while (count > 0) {
            put(digits[--count]);
        }
    }

  protected:
    ~Sink() = default;
};

// A message may come in several calls; its end is a line feed. Brackets would end it early for the host.
class Message final : public Sink {
  public:
    void put(char character) override
    {
        if (character == '\n') {
            say();
        } else if (character >= ' ' && character <= '~' && length_ + 1u < sizeof text_) {
            text_[length_++] = character == '[' ? '(' : character == ']' ? ')' : character;
        }
    }

  private:
    void say()
    {
        if (length_ > 0u) {
            text_[length_] = '\0';
            hil_error(text_);
            length_ = 0;
        }
    }

    char text_[120];
    std::size_t length_ = 0;
};

class Buffer final : public Sink {
  public:
    Buffer(char *to, std::size_t size) : to_(to), size_(size) {}

    void put(char character) override
    {
        if (length_ + 1u < size_) {
            to_[length_] = character;
        }
        length_++;
    }

    int finish()
    {
        if (size_ > 0u) {
            to_[length_ < size_ ? length_ : size_ - 1u] = '\0';
        }
        return static_cast<int>(length_);
    }

  private:
    char *to_;
    std::size_t size_;
    std::size_t length_ = 0;
};

bool is_modifier(char character)
{
    return (character >= '0' && character <= '9') || character == '.' || character == '-' || character == 'l' ||
           character == 'z' || character == 'h';
}

void put_signed(Sink &sink, std::int32_t value)
{
    if (value < 0) {
        sink.put('-');
    }
    const std::uint32_t bits = static_cast<std::uint32_t>(value);
    sink.number(value < 0 ? 0u - bits : bits, 10);
}

// One conversion. A floating point number is not printed, only read over.
void put_argument(Sink &sink, char conversion, va_list &arguments)
{
    switch (conversion) {
    case 's':
        if (const char *text = va_arg(arguments, const char *)) {
            sink.text(text);
        }
        break;
    case 'd':
    case 'i':
        put_signed(sink, va_arg(arguments, int));
        break;
    case 'u':
        sink.number(va_arg(arguments, unsigned), 10);
        break;
    case 'x':
    case 'X':
    case 'p':
        sink.number(va_arg(arguments, unsigned), 16);
        break;
    case 'c':
        sink.put(static_cast<char>(va_arg(arguments, int)));
        break;
    case 'f':
    case 'e':
    case 'g':
        (void)va_arg(arguments, double);
        sink.text("(float)");
        break;
    default:
        sink.put(conversion);
    }
}

// What TFLM's messages use of printf, without widths and precisions.
void format_into(Sink &sink, const char *format, va_list arguments)
{
    va_list rest;
    va_copy(rest, arguments);
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            sink.put(*format);
            continue;
        }
        do {
            format++;
        } while (is_modifier(*format));
        if (*format == '\0') {
            break;
        }
        put_argument(sink, *format, rest);
    }
    va_end(rest);
}

Message *message;

}  // namespace

void hil::start_log()
{
    alignas(Message) static unsigned char place[sizeof(Message)];
    message = new (place) Message;
}

extern "C" void DebugLog(const char *format, va_list arguments)
{
    format_into(*message, format, arguments);
}

extern "C" int DebugVsnprintf(char *to, std::size_t size, const char *format, va_list arguments)
{
    Buffer buffer(to, size);
    format_into(buffer, format, arguments);
    return buffer.finish();
}

// What newlib has of these wants an operating system. TFLM's builds with assertions call them, and they are final here.
// In this file because the linker has taken it before it looks for them.
[[noreturn]] static void give_up()
{
    hil_error("TFLM gave up: an assertion of it failed");
    __builtin_trap(); // a fault, which the fault handler reports with its place
}

extern "C" {
[[noreturn]] void abort(void);
[[noreturn]] void __assert_func(const char *, int, const char *, const char *);
[[noreturn]] void _exit(int);

void abort(void)
{
    give_up();
}

void __assert_func(const char *, int, const char *, const char *)
{
    give_up();
}

void _exit(int)
{
    give_up();
}
}
