/** The root disk of an instance that asks for no size. The file system of an image is built as large, so that it need not be grown at each first start. */
export const defaultDiskMib = 1024;
