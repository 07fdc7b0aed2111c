// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The stage receipt: invoice, proof of usage and evidence in one. Mirrors `protocol/receipts.py`; `test/vectors` holds both to it.
library ReceiptLib {
    /// @param number consecutive for each provider, from 1
    /// @param epoch the session's fencing epoch: raised when a stage is replaced
    /// @param firstPosition the first position whose output this stage served
    /// @param checkpoint struct hash of the last checkpoint, which carries the roots of rows in and out
    struct Receipt {
        address provider;
        uint64 number;
        bytes32 jobId;
        address payer;
        address gateway;
        bytes32 modelId;
        uint16 firstLayer;
        uint16 endLayer;
        bytes32 executionClass;
        uint64 epoch;
        uint32 firstPosition;
        uint32 positionCount;
        uint32 cachedCount;
        bytes32 checkpoint;
        uint32 promptTokens;
        uint32 completionTokens;
        uint128 inputPrice;
        uint128 cachedPrice;
        uint128 outputPrice;
        uint128 amount;
    }

    bytes32 internal constant TYPEHASH = keccak256(
        "StageReceipt(address provider,uint64 number,bytes32 jobId,address payer,address gateway,bytes32 modelId,uint16 firstLayer,uint16 endLayer,bytes32 executionClass,uint64 epoch,uint32 firstPosition,uint32 positionCount,uint32 cachedCount,bytes32 checkpoint,uint32 promptTokens,uint32 completionTokens,uint128 inputPrice,uint128 cachedPrice,uint128 outputPrice,uint128 amount)"
    );

    /// @notice EIP-712 struct hash. All members are static, so their ABI encoding is the concatenation that EIP-712 asks for.
    function structHash(Receipt memory receipt) internal pure returns (bytes32) {
        return keccak256(bytes.concat(TYPEHASH, abi.encode(receipt)));
    }

    /// @notice EIP-712 domain of receipts; `log` is the CommitmentLog that they are anchored in.
    function domainSeparator(address log) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Function Network Receipts"),
                keccak256("1"),
                block.chainid,
                log
            )
        );
    }

    /// @notice The receipt's leaf in its batch: hashed once more, so that no inner node passes for a leaf.
    function leaf(Receipt memory receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(structHash(receipt)));
    }
}
