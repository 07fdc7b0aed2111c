// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowAuthorise is Network {
    uint256 private constant PAYER_KEY = 0xABCDEF;
    address private _signer = vm.addr(PAYER_KEY);

    /// @dev A payer of 100 that lets the gateway spend only what it signs for, and a bond of 5.
    function _signedLimit() private {
        payer = _signer;
        _bond(5 ether, 5 ether);
        vm.prank(payer);
        escrow.requireSignatures(gateway, true);
        _fundPayer(100 ether);
    }

    function _debitSigned(uint96 amount) private returns (uint96) {
        vm.prank(address(settlement));
        return escrow.debit(payer, gateway, owner, modelId, amount);
    }

    function _authorisation(uint256 key, uint128 cumulative, bytes32 requestHash) private view returns (bytes memory) {
        (, string memory name, string memory version, uint256 chainId, address verifying,,) = escrow.eip712Domain();
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chainId,
                verifying
            )
        );
        bytes32 hash = keccak256(abi.encode(escrow.AUTHORISATION_TYPEHASH(), payer, gateway, cumulative, requestHash));
        return _sign(key, keccak256(abi.encodePacked(hex"1901", domain, hash)));
    }

    function _authorise(uint128 cumulative) private {
        escrow.authorise(payer, gateway, cumulative, "request", _authorisation(PAYER_KEY, cumulative, "request"));
    }

    function test_debit__without_signatures__takes_from_the_bond_alone() public {
        _signedLimit();
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 0);
        assertEq(_debitSigned(3 ether), 3 ether);
        assertEq(escrow.bondOf(gateway).balance, 2 ether);
        assertEq(escrow.limitOf(payer, gateway).reserved, 100 ether);
    }

    function test_debit__up_to_what_is_signed__and_the_rest_from_the_bond() public {
        _signedLimit();
        (uint256 fromPayer,) = escrow.availableWith(payer, gateway, owner, modelId, 10 ether);
        assertEq(fromPayer, 10 ether);
        _authorise(10 ether);
        assertEq(_debitSigned(4 ether), 4 ether);
        (fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 6 ether);
        assertEq(_debitSigned(8 ether), 8 ether);
        assertEq(escrow.limitOf(payer, gateway).reserved, 90 ether);
        assertEq(escrow.bondOf(gateway).balance, 3 ether);
        IPaymentEscrow.Authorisation memory a = escrow.authorisationOf(payer, gateway);
        assertTrue(a.required);
        assertEq(a.cumulative, 10 ether);
        assertEq(a.taken, 10 ether);
        _authorise(11 ether);
        (fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 1 ether);
        _assertLedgers();
    }

    function testFuzz_debit__never_more_than_signed_for(uint96[4] memory signed, uint96[4] memory wanted, uint32 wait) public {
        _signedLimit();
        uint256 highest;
        uint256 taken;
        for (uint256 i; i < 4; ++i) {
            uint128 cumulative = uint128(bound(signed[i], 0, 200 ether));
            _authorise(cumulative);
            if (cumulative > highest) highest = cumulative;
            (uint256 fromPayer, uint256 fromBond) = escrow.available(payer, gateway, owner, modelId);
            uint96 amount = uint96(bound(wanted[i], 1, 100 ether));
            uint96 got = _debitSigned(amount);
            assertEq(got, amount < fromPayer + fromBond ? amount : fromPayer + fromBond);
            taken += got < fromPayer ? got : fromPayer;
            assertLe(taken, highest);
            assertEq(escrow.authorisationOf(payer, gateway).taken, taken);
            skip(wait % 2 days);
        }
        _assertLedgers();
    }

    function test_authorise__less_than_before__changes_nothing() public {
        _signedLimit();
        _authorise(10 ether);
        _authorise(4 ether);
        assertEq(escrow.authorisationOf(payer, gateway).cumulative, 10 ether);
    }

    function test_authorise__more_than_can_exist__is_all_there_is() public {
        _signedLimit();
        _authorise(type(uint128).max);
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 100 ether);
        assertEq(_debitSigned(60 ether), 60 ether);
    }

    function test_authorise__not_by_the_payer_or_for_other_words__reverts() public {
        _signedLimit();
        bytes memory another = _authorisation(gatewayKey, 1 ether, "request");
        vm.expectRevert(IPaymentEscrow.BadAuthorisation.selector);
        escrow.authorise(payer, gateway, 1 ether, "request", another);
        bytes memory own = _authorisation(PAYER_KEY, 1 ether, "request");
        vm.expectRevert(IPaymentEscrow.BadAuthorisation.selector);
        escrow.authorise(payer, gateway, 2 ether, "request", own);
        vm.expectRevert(IPaymentEscrow.BadAuthorisation.selector);
        escrow.authorise(payer, gateway, 1 ether, "another", own);
        vm.expectRevert(IPaymentEscrow.BadAuthorisation.selector);
        escrow.authorise(payer, owner, 1 ether, "request", own);
        vm.expectRevert(IPaymentEscrow.BadAuthorisation.selector);
        escrow.authorise(payer, gateway, 1 ether, "request", hex"00");
    }

    function test_requireSignatures__while_a_limit_holds__reverts__and_may_be_given_up() public {
        payer = _signer;
        _fundPayer(100 ether);
        vm.startPrank(payer);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.requireSignatures(gateway, true);
        escrow.requireSignatures(gateway, false);
        assertFalse(escrow.authorisationOf(payer, gateway).required);
        escrow.revokeLimit(gateway);
        skip(1_000 days);
        escrow.requireSignatures(gateway, true);
        escrow.setLimit(gateway, 1 ether, 1 days, uint64(block.timestamp + 10 days), new bytes32[](0));
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 0);
        escrow.requireSignatures(gateway, false);
        (fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 1 ether);
        vm.stopPrank();
    }

    function test_limit__on_listed_models__keeps_its_list_with_signatures() public {
        payer = _signer;
        _fund(payer, 10 ether);
        bytes32[] memory list = new bytes32[](1);
        list[0] = modelId;
        vm.startPrank(payer);
        token.approve(address(escrow), 10 ether);
        escrow.deposit(payer, 10 ether);
        escrow.requireSignatures(gateway, true);
        escrow.setLimit(gateway, 10 ether, 1 days, uint64(block.timestamp + 10 days), list);
        vm.stopPrank();
        _authorise(5 ether);
        (uint256 listed,) = escrow.available(payer, gateway, owner, modelId);
        (uint256 other,) = escrow.available(payer, gateway, owner, "another");
        assertEq(listed, 5 ether);
        assertEq(other, 0);
    }
}
