/* base/bytes.h */
#include <criterion/criterion.h>
#include <string.h>

#include "base/bytes.h"

Test(bytes, little_endian_puts_the_low_byte_first)
{
    le16 a = le16_make(0x0102);
    le32 b = le32_make(0x01020304);
    le64 c = le64_make(0x0102030405060708);
    cr_assert_arr_eq(a.b, "\x02\x01", 2);
    cr_assert_arr_eq(b.b, "\x04\x03\x02\x01", 4);
    cr_assert_arr_eq(c.b, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    cr_assert_eq(le16_get(a), 0x0102);
    cr_assert_eq(le32_get(b), 0x01020304);
    cr_assert_eq(le64_get(c), 0x0102030405060708);
}

Test(bytes, big_endian_puts_the_high_byte_first)
{
    be16 a = be16_make(0x0102);
    be32 b = be32_make(0x01020304);
    be64 c = be64_make(0x0102030405060708);
    cr_assert_arr_eq(a.b, "\x01\x02", 2);
    cr_assert_arr_eq(b.b, "\x01\x02\x03\x04", 4);
    cr_assert_arr_eq(c.b, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
    cr_assert_eq(be16_get(a), 0x0102);
    cr_assert_eq(be32_get(b), 0x01020304);
    cr_assert_eq(be64_get(c), 0x0102030405060708);
}

struct mixed {
    uint8_t before;
    be64 middle;
    le16 end;
};

Test(bytes, structs_of_them_have_no_padding_and_any_address)
{
    cr_assert_eq(sizeof(struct mixed), 11);
    uint8_t raw[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0};
    const struct mixed *mixed = (const struct mixed *)(raw + 1);
    cr_assert_eq(be64_get(mixed->middle), 1);
    cr_assert_eq(le16_get(mixed->end), 2);
}
