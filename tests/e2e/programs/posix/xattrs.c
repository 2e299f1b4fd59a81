// Extended attributes and access control lists.
#include <sys/xattr.h>

#include "cases.h"

static void Basics(void) {
  char value[64] = "";
  Make("file", "", 0644);
  OK(setxattr("file", "user.a", "value", 5, 0));
  IS(5, getxattr("file", "user.a", NULL, 0));
  IS(5, getxattr("file", "user.a", value, sizeof(value)));
  CheckText("value", value, __LINE__, "user.a");
  FAILS(ERANGE, getxattr("file", "user.a", value, 2));
  FAILS(EEXIST, setxattr("file", "user.a", "x", 1, XATTR_CREATE));
  FAILS(ENODATA, setxattr("file", "user.b", "x", 1, XATTR_REPLACE));
  OK(setxattr("file", "user.a", "other", 5, XATTR_REPLACE));
  OK(setxattr("file", "user.b", "x", 1, XATTR_CREATE));
  FAILS(ENODATA, getxattr("file", "user.c", value, sizeof(value)));
  FAILS(ENODATA, removexattr("file", "user.c"));
  OK(removexattr("file", "user.a"));
  FAILS(ENODATA, getxattr("file", "user.a", NULL, 0));
  const int fd = OK(open("file", O_RDONLY));
  OK(fsetxattr(fd, "user.d", "\0\n", 2, 0));
  IS(2, fgetxattr(fd, "user.d", value, sizeof(value)));
}

static int Listed(const char* path, const char* name) {
  char list[1024];
  const ssize_t size = listxattr(path, list, sizeof(list));
  for (ssize_t at = 0; at < size; at += (ssize_t)strlen(list + at) + 1) {
    if (strcmp(list + at, name) == 0) return 1;
  }
  return 0;
}

static void Lists(void) {
  char list[64];
  MakeDir("dir", 0755);
  OK(setxattr("dir", "user.one", "1", 1, 0));
  OK(setxattr("dir", "user.two", "2", 1, 0));
  TRUE_(Listed("dir", "user.one") && Listed("dir", "user.two"));
  FAILS(ERANGE, listxattr("dir", list, 3));
  OK(removexattr("dir", "user.one"));
  TRUE_(!Listed("dir", "user.one") && Listed("dir", "user.two"));
}

static void Sizes(void) {
  static char value[70000];
  char name[300] = "user.";
  Make("file", "", 0644);
  memset(name + 5, 'n', 250);
  OK(setxattr("file", name, "x", 1, 0));
  IS(1, getxattr("file", name, value, 10));
  name[255] = 'n';
  FAILS(ERANGE, setxattr("file", name, "x", 1, 0));
  FAILS(E2BIG, setxattr("file", "user.big", value, 65537, 0));
  OK(setxattr("file", "user.big", value, 2000, 0));
  IS(2000, getxattr("file", "user.big", value, sizeof(value)));
}

static void EmptyValues(void) {
  Make("file", "", 0644);
  OK(setxattr("file", "user.empty", "", 0, 0));
  IS(0, getxattr("file", "user.empty", NULL, 0));
  TRUE_(Listed("file", "user.empty"));
}

static void Namespaces(void) {
  Make("file", "", 0644);
  OK(mkfifo("fifo", 0644));
  OK(symlink("file", "link"));
  FAILS(EOPNOTSUPP, setxattr("file", "nowhere.a", "x", 1, 0));
  // Attributes of users are for files and directories.
  FAILS(EPERM, setxattr("fifo", "user.a", "x", 1, 0));
  FAILS(EPERM, lsetxattr("link", "user.a", "x", 1, 0));
  OK(setxattr("link", "user.a", "x", 1, 0));
  IS(1, getxattr("file", "user.a", NULL, 0));
}

static void Rights(void) {
  Make("file", "", 0644);
  OK(setxattr("file", "user.a", "x", 1, 0));
  As(kUser, kGroup);
  FAILS(EACCES, setxattr("file", "user.a", "y", 1, 0));
  FAILS(EACCES, removexattr("file", "user.a"));
  IS(1, getxattr("file", "user.a", NULL, 0));
  AsRoot();
  OK(chmod("file", 0600));
  As(kUser, kGroup);
  FAILS(EACCES, getxattr("file", "user.a", NULL, 0));
}

static void StickyDirectories(void) {
  MakeDir("dir", 01777);
  As(kUser, kGroup);
  FAILS(EPERM, setxattr("dir", "user.a", "x", 1, 0));
}

static void Trusted(void) {
  Make("file", "", 0666);
  OK(setxattr("file", "trusted.a", "x", 1, 0));
  IS(1, getxattr("file", "trusted.a", NULL, 0));
  TRUE_(Listed("file", "trusted.a"));
  As(kUser, kGroup);
  FAILS(EPERM, setxattr("file", "trusted.b", "x", 1, 0));
  FAILS(ENODATA, getxattr("file", "trusted.a", NULL, 0));
  TRUE_(!Listed("file", "trusted.a"));
}

static void Security(void) {
  Make("file", "", 0666);
  OK(setxattr("file", "security.test", "x", 1, 0));
  IS(1, getxattr("file", "security.test", NULL, 0));
  As(kUser, kGroup);
  FAILS(EPERM, setxattr("file", "security.test", "y", 1, 0));
}

// What setcap(8) writes: revision 2, effective, CAP_NET_RAW.
static const unsigned kCapability[] = {0x02000001, 1U << 13, 0, 0, 0};

static void Capabilities(void) {
  Make("file", "abc", 0777);
  unsigned value[6];
  OK(setxattr("file", "security.capability", kCapability, sizeof(kCapability), 0));
  IS(sizeof(kCapability), getxattr("file", "security.capability", value, sizeof(value)));
  IS(0, memcmp(value, kCapability, sizeof(kCapability)));
  // A changed program has no rights any more.
  As(kUser, kGroup);
  const int fd = OK(open("file", O_WRONLY));
  IS(1, write(fd, "x", 1));
  AsRoot();
  FAILS(ENODATA, getxattr("file", "security.capability", value, sizeof(value)));
}

static void CapabilitiesAndOwners(void) {
  Make("file", "abc", 0777);
  OK(setxattr("file", "security.capability", kCapability, sizeof(kCapability), 0));
  OK(chown("file", kUser, kGroup));
  FAILS(ENODATA, getxattr("file", "security.capability", NULL, 0));
}

// --- access control lists, as setxattr(2) takes them

struct Entry {
  unsigned short tag;
  unsigned short rights;
  unsigned id;
};
enum { kOwnerTag = 1, kUserTag = 2, kGroupTag = 4, kNamedGroupTag = 8, kMaskTag = 16, kOtherTag = 32 };
static const unsigned kNoId = 0xffffffff;

struct List {
  unsigned version;
  struct Entry entries[6];
};

// rw for the owner, those rights for kUser, nothing for others.
static struct List ForUser(unsigned short rights, unsigned short mask) {
  return (struct List){2,
                       {{kOwnerTag, 6, kNoId},
                        {kUserTag, rights, kUser},
                        {kGroupTag, 0, kNoId},
                        {kMaskTag, mask, kNoId},
                        {kOtherTag, 0, kNoId}}};
}
enum { kListBytes = 4 + 5 * 8 };

static void AclAccess(void) {
  Make("file", "text", 0600);
  const struct List list = ForUser(6, 6);
  OK(setxattr("file", "system.posix_acl_access", &list, kListBytes, 0));
  IS(0660, Mode("file"));
  struct List back;
  IS(kListBytes, getxattr("file", "system.posix_acl_access", &back, sizeof(back)));
  IS(0, memcmp(&list, &back, kListBytes));
  As(kUser, kGroup);
  OK(open("file", O_RDWR));
  As(kOther, kOtherGroup);
  FAILS(EACCES, open("file", O_RDONLY));
  FAILS(EPERM, setxattr("file", "system.posix_acl_access", &list, kListBytes, 0));
  AsRoot();
  // The bits of the group are the mask.
  OK(chmod("file", 0640));
  As(kUser, kGroup);
  OK(open("file", O_RDONLY));
  FAILS(EACCES, open("file", O_RDWR));
  AsRoot();
  OK(removexattr("file", "system.posix_acl_access"));
  As(kUser, kGroup);
  FAILS(EACCES, open("file", O_RDWR));
}

static void AclDefault(void) {
  MakeDir("dir", 0777);
  const struct List list = ForUser(7, 7);
  OK(setxattr("dir", "system.posix_acl_default", &list, kListBytes, 0));
  Make("file", "", 0644);
  FAILS(EACCES, setxattr("file", "system.posix_acl_default", &list, kListBytes, 0));
  // With such a list the umask does not count.
  umask(077);
  OK(open("dir/file", O_CREAT | O_WRONLY, 0666));
  OK(mkdir("dir/sub", 0777));
  umask(0);
  IS(0660, Mode("dir/file"));
  struct List back;
  IS(kListBytes, getxattr("dir/sub", "system.posix_acl_default", &back, sizeof(back)));
  IS(kListBytes, getxattr("dir/file", "system.posix_acl_access", &back, sizeof(back)));
  As(kUser, kGroup);
  OK(open("dir/file", O_RDWR));
  OK(open("dir/sub/more", O_CREAT | O_WRONLY, 0666));
}

static void AclInvalid(void) {
  Make("file", "", 0644);
  struct List list = ForUser(6, 6);
  FAILS(EINVAL, setxattr("file", "system.posix_acl_access", &list, 11, 0));
  list.entries[3].tag = kUserTag;  // no mask
  FAILS(EINVAL, setxattr("file", "system.posix_acl_access", &list, kListBytes, 0));
  list.version = 3;
  FAILS(EOPNOTSUPP, setxattr("file", "system.posix_acl_access", &list, kListBytes, 0));
}

// A list that says no more than the mode is the mode.
static void AclMinimal(void) {
  Make("file", "", 0600);
  const struct List list = {2, {{kOwnerTag, 6, kNoId}, {kGroupTag, 4, kNoId}, {kOtherTag, 4, kNoId}}};
  OK(setxattr("file", "system.posix_acl_access", &list, 4 + 3 * 8, 0));
  IS(0644, Mode("file"));
  FAILS(ENODATA, getxattr("file", "system.posix_acl_access", NULL, 0));
}

const struct Case xattr_cases[] = {
    {"xattr.basics", Basics},         {"xattr.lists", Lists},
    {"xattr.sizes", Sizes},           {"xattr.empty", EmptyValues},
    {"xattr.namespaces", Namespaces}, {"xattr.rights", Rights},
    {"xattr.sticky", StickyDirectories}, {"xattr.trusted", Trusted},
    {"xattr.security", Security},     {"xattr.capabilities", Capabilities},
    {"xattr.capabilities_and_owners", CapabilitiesAndOwners},
    {"acl.access", AclAccess},        {"acl.default", AclDefault},
    {"acl.invalid", AclInvalid},      {"acl.minimal", AclMinimal},
    {NULL, NULL},
};
