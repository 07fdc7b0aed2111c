// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryMakeOffer is Network {
    function test_makeOffer__where_the_model_may_be_cut__is_listed() public {
        _joinProvider();
        IProviderRegistry.Offer memory made = _offer(10, 20);
        made.active = false;
        vm.prank(owner);
        uint256 id = providers.makeOffer(made);
        assertTrue(providers.offerAt(owner, id).active);
        IProviderRegistry.OfferView[] memory listed = providers.offersFor(modelId);
        assertEq(listed.length, 2);
        assertEq(listed[1].offer.firstLayer, 10);
        assertEq(listed[1].operator, operator);
        assertEq(providers.offersOf(owner).length, 2);
        assertEq(providers.offersFor("other").length, 0);
    }

    function test_makeOffer__elsewhere__reverts() public {
        _joinProvider();
        uint16[2][5] memory wrong = [[uint16(0), 0], [uint16(5), 30], [uint16(0), 15], [uint16(10), 31], [uint16(20), 10]];
        vm.startPrank(owner);
        for (uint256 i; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.BadLayerRange.selector, wrong[i][0], wrong[i][1]));
            providers.makeOffer(_offer(wrong[i][0], wrong[i][1]));
        }
        vm.stopPrank();
    }

    function test_makeOffer__unknown_model_or_too_little_stake__reverts() public {
        _joinProvider();
        IProviderRegistry.Offer memory other = _offer(0, 30);
        other.modelId = "other";
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchModel.selector, bytes32("other")));
        providers.makeOffer(other);
        providers.makeOffer(_offer(0, 10));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeBelowMinimum.selector, STAKE, 30_000 ether));
        providers.makeOffer(_offer(10, 30));
        vm.stopPrank();
    }
}
