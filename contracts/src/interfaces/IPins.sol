// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Pins: receipts that a drawn verifier wants the evidence of
/// @notice A verifier that the lottery drew for a receipt proves it and pins the receipt, where its provider does not acknowledge the request.
/// Pinned rows must be kept and served until the dispute window ends; the rows of all others may be dropped after the draw window.
/// @dev Assumptions: a BLS signature on the epoch's tip is unique, so nobody can draw twice; tips and batches are kept longer than `pinWindow`.
interface IPins {
    /// @notice An anchored receipt: its leaf and the path to its batch's root.
    struct Anchored {
        address provider;
        uint64 batchId;
        bytes32 leaf;
        bytes32[] proof;
    }

    error NotAnchored();
    error WindowOver(uint64 at);
    error BadDutySignature(uint64 epoch, uint256 seat);
    error NotDrawn();
    error AlreadyPinned();

    event Pinned(
        uint64 sequence, address indexed provider, uint64 indexed batchId, address indexed verifier, bytes32 leaf, uint64 keepUntil
    );

    /// @notice Pins a receipt. The caller sits at `seat` of the batch's epoch and signed that epoch's tip.
    function pin(Anchored calldata receipt, uint256 seat, bytes calldata dutySignature) external;

    /// @notice Until when the rows behind a receipt must be kept; zero where it is not pinned.
    function pinnedUntil(address provider, uint64 batchId, bytes32 leaf) external view returns (uint64);

    /// @notice The lottery: `H(signature, provider, batch, leaf)` below `min(1, rate * weight / total)`, `rate` in parts per million.
    function isDrawn(
        bytes calldata dutySignature,
        address provider,
        uint64 batchId,
        bytes32 leaf,
        uint256 rate,
        uint256 weight,
        uint256 total
    ) external pure returns (bool);
}
